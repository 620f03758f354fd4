"""MLflow runs: opened with their parameters and tags, always closed, marked as failed when they fail."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mlflow.exceptions import MlflowException

from components.mlflow_client import mlflow_client

__all__ = ["MlflowException", "flat_params", "log_file", "open_run", "run_metrics"]

EXPERIMENT = "fraud-training"


@contextmanager
def open_run(tracking_uri: str, name: str, tags: Mapping[str, str], params: Mapping[str, str]) -> Iterator[str]:
    """Opens a run while inside and yields its id; a run that raises ends as FAILED.

    Args:
        tracking_uri: MLflow server.
        name: the run's name.
        tags: for example team, purpose, dataset_version.
        params: flat parameters.
    """
    client = mlflow_client(tracking_uri)
    experiment = client.get_experiment_by_name(EXPERIMENT)
    experiment_id = experiment.experiment_id if experiment else client.create_experiment(EXPERIMENT)
    run_id: str = client.create_run(experiment_id, tags=dict(tags), run_name=name).info.run_id
    status = "FAILED"
    try:
        for key, value in params.items():
            client.log_param(run_id, key, value)
        yield run_id
        status = "FINISHED"
    finally:
        client.set_terminated(run_id, status)


def log_file(tracking_uri: str, run_id: str, path: Path) -> None:
    """Keeps a file with the run, when there is one."""
    if path.exists():
        mlflow_client(tracking_uri).log_artifact(run_id, str(path))


def run_metrics(tracking_uri: str, run_id: str) -> dict[str, float]:
    """The metrics of a run by name."""
    return dict(sorted(mlflow_client(tracking_uri).get_run(run_id).data.metrics.items()))


def flat_params(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested settings by dotted name."""
    flat: dict[str, str] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat.update(flat_params(value, f"{prefix}{name}."))
        else:
            flat[f"{prefix}{name}"] = str(value)
    return flat
