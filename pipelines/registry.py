"""The model registry: which version is the champion, and where serving finds it."""

from __future__ import annotations

import json
import logging
from pathlib import Path

from components.errors import MlflowUnreachable
from components.model_registry import ModelVersion, bundle_folder, get
from components.register_model.logic import MODELS
from pipelines.errors import RegistryError

__all__ = ["ModelVersion", "bundle_folder", "champion_folders", "get"]

_LOG = logging.getLogger(__name__)


def champion_folders(tracking_uri: str, memory: Path, alias: str) -> dict[str, str]:
    """The champion's bundle folders by model, empty texts where there is no champion yet.

    They are noted in a file each time, so that a challenger can be trained and held to the champion while MLflow is
    away.

    Args:
        tracking_uri: MLflow server.
        memory: the file.
        alias: of what is being trained: a challenger needs a champion.

    Raises:
        RegistryError: there is no champion to challenge, or none is known while MLflow is away.
    """
    try:
        found = {name: str(get(tracking_uri, name, "champion").folder) for name in MODELS}
    except RegistryError:
        if alias != "champion":
            raise
        return dict.fromkeys(MODELS, "")
    except MlflowUnreachable as error:
        return _remembered(memory, alias, error)
    pending = memory.with_suffix(".pending")
    pending.write_text(json.dumps(found, indent=2) + "\n")
    pending.rename(memory)
    return found


def _remembered(memory: Path, alias: str, error: MlflowUnreachable) -> dict[str, str]:
    if memory.exists():
        found: dict[str, str] = json.loads(memory.read_text())
        _LOG.warning("held to the champion that was last seen, %s", Path(found[MODELS[0]]).name)
        return found
    if alias != "champion":
        raise RegistryError(f"{error} No champion was ever seen from here, so there is none to challenge") from None
    _LOG.warning("no champion is known while MLflow is away: the gate compares with none")
    return dict.fromkeys(MODELS, "")
