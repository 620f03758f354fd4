"""How the command line ends: an error that a user can cause is one line, any other a traceback."""

from __future__ import annotations

import traceback
from collections.abc import Callable

from pydantic import ValidationError
from redis.exceptions import RedisError
from rich.console import Console

Errors = tuple[type[Exception], ...]


def exit_code(command: Callable[[], object], others: Callable[[], Errors]) -> int:
    """Runs a command and returns its exit code; prints what went wrong, if anything.

    Args:
        command: what to run.
        others: gives further errors that a user can cause; called only when there is an error.
    """
    try:
        command()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1
    except (*_expected_errors(), *others()) as error:
        _complain(str(error))
    except ValidationError as error:
        first = error.errors()[0]
        _complain(f"{'.'.join(map(str, first['loc']))}: {first['msg']}")
    except RedisError as error:
        _complain(f"Redis: {error}")
    except OSError as error:
        _complain(f"{error.strerror} ({error.filename})" if error.filename else str(error))
    except BaseException:
        traceback.print_exc()
    return 1


def _expected_errors() -> Errors:
    """Errors that a user can cause: they end as one line. Imported late, so that `fraud --help` is quick."""
    from mlflow.exceptions import MlflowException

    from components.errors import ComponentError
    from feature_repo.errors import FeatureRepoError
    from inference_services.errors import ServingError
    from pipelines.errors import PipelineError

    return FeatureRepoError, ComponentError, ServingError, PipelineError, MlflowException


def _complain(text: str) -> None:
    Console(stderr=True, highlight=False, soft_wrap=True).print(f"fraud: {text}", style="red", markup=False)
