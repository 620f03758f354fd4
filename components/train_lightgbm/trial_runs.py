"""Each trial of a search as an MLflow run under the run of the training."""

from __future__ import annotations

import logging

from mlflow import MlflowClient
from mlflow.entities import Metric, Param
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from components.mlflow_client import mlflow_client
from components.train_lightgbm.trials import Trial

_log = logging.getLogger(__name__)


class TrialRuns:
    """Writes trials to a tracking server; when it fails, says so once and writes no more.

    Nothing is lost: `search.json` of the bundle has all trials.
    """

    def __init__(self, tracking_uri: str, run_id: str) -> None:
        """Opens nothing yet.

        Args:
            tracking_uri: MLflow server; empty for none.
            run_id: the training's run; empty for none.
        """
        self._uri, self._run_id = tracking_uri, run_id
        self._client: MlflowClient | None = None
        self._experiment_id = ""
        self._on = bool(tracking_uri and run_id)

    def __call__(self, trial: Trial) -> None:
        """Keeps a trial that is done."""
        if not self._on:
            return
        try:
            self._write(trial)
        except (MlflowException, OSError) as error:  # the client lets some of requests' errors through, all OSErrors
            self._on = False
            _log.warning("trials are not kept in MLflow, only in search.json: %s", error)

    def _write(self, trial: Trial) -> None:
        if self._client is None:
            client = mlflow_client(self._uri)
            self._experiment_id = client.get_run(self._run_id).info.experiment_id
            self._client = client
        tags = {MLFLOW_PARENT_RUN_ID: self._run_id, "pruned": str(trial.pruned).lower()}
        name = f"trial-{trial.number}"
        run_id = self._client.create_run(self._experiment_id, tags=tags, run_name=name).info.run_id
        measured = {"valid.average_precision": trial.average_precision, "trees": float(trial.trees)}
        metrics = [Metric(key, value, 0, 0) for key, value in measured.items()]
        params = [Param(key, str(value)) for key, value in trial.settings.items()]
        self._client.log_batch(run_id, metrics, params)
        self._client.set_terminated(run_id, "FINISHED")
