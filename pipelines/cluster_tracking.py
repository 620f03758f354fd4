"""The MLflow run of a pipeline that runs elsewhere: opened here, written to by the steps, closed by who watches.

Unlike `pipelines.tracking`, which holds a run open while this process works on it, nothing here closes a run that goes
on without us.
"""

from __future__ import annotations

from pathlib import Path

from components.mlflow_client import MlflowException, mlflow_client
from pipelines.errors import KfpError
from pipelines.training import RunRecord

EXPERIMENT = "fraud-training"


def start(tracking_uri: str, record: RunRecord) -> str:
    """Opens a run, which stays open until `end`, and returns its id."""
    client = mlflow_client(tracking_uri)
    experiment = client.get_experiment_by_name(EXPERIMENT)
    experiment_id = experiment.experiment_id if experiment else client.create_experiment(EXPERIMENT)
    run_id: str = client.create_run(experiment_id, tags=record.tags, run_name=record.name).info.run_id
    for key, value in record.params.items():
        client.log_param(run_id, key, value)
    return run_id


def keep(tracking_uri: str, run_id: str, package: Path) -> None:
    """Keeps the compiled pipeline with the run."""
    mlflow_client(tracking_uri).log_artifact(run_id, str(package))


def link(tracking_uri: str, run_id: str, page: str) -> None:
    """Notes the page of the cluster's run."""
    mlflow_client(tracking_uri).set_tag(run_id, "kfp_run", page)


def end(tracking_uri: str, run_id: str, status: str) -> None:
    """Closes a run as FINISHED, FAILED or KILLED.

    Raises:
        KfpError: MLflow has no such run: it is another one than the pipeline wrote to.
    """
    try:
        mlflow_client(tracking_uri).set_terminated(run_id, status)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        raise KfpError(
            f"the MLflow at {tracking_uri} has no run {run_id}: is it the one that the cluster writes to?"
        ) from None


def metrics(tracking_uri: str, run_id: str) -> dict[str, float]:
    """The metrics of a run by name."""
    return dict(sorted(mlflow_client(tracking_uri).get_run(run_id).data.metrics.items()))
