"""The training pipeline: from a dataset to registered bundles, on a cluster or in this machine's processes."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from components.register_model.logic import MODELS
from feature_repo.datasets import Dataset
from inference_services.policy_settings import ThresholdSettings
from pipelines import registry, tracking
from pipelines.errors import RegistryError, StepError
from pipelines.registry import ModelVersion
from pipelines.report import git_commit
from pipelines.settings import TrainingRun

Progress = Callable[[int, int], None]

STEPS = (
    "validate-events",
    "build-training-set",
    "train-lightgbm",
    "train-gnn",
    "fuse-and-calibrate",
    "evaluate",
    "gate",
    "register-model",
)
_FINISHED = re.compile(r"Task .*?'([\w-]+)'.* finished with status .*?(SUCCESS|FAILURE)")
_RAISED = re.compile(r"^\s*(?:\w+\.)*[A-Z]\w+: (.+)$")


@dataclass(frozen=True)
class TrainingResult:
    """What a run left behind.

    Attributes:
        run_id: its MLflow run.
        versions: what it registered: LightGBM, GNN, fusion.
        metrics: the challenger pair's measures on the test days.
        log: output of all steps.
        wall_s: seconds it took.
    """

    run_id: str
    versions: list[ModelVersion]
    metrics: dict[str, float]
    log: Path
    wall_s: float


def compile(path: Path) -> None:  # noqa: A001 - the word of KFP for it; used as training.compile
    """Writes the pipeline as the YAML that Kubeflow takes; the same bytes every time."""
    from kfp.compiler import Compiler  # noqa: PLC0415 - KFP takes seconds to load

    from pipelines.training_pipeline import training_pipeline  # noqa: PLC0415

    path.parent.mkdir(parents=True, exist_ok=True)
    Compiler().compile(training_pipeline, str(path))


def run_local(settings: TrainingRun, progress: Progress | None = None) -> TrainingResult:
    """Runs the pipeline in this machine's processes, inside an MLflow run.

    Args:
        settings: what to train on and where results go.
        progress: called with (steps done, steps in all).

    Raises:
        RegistryError: a challenger is asked for and there is no champion.
        StepError: a step failed; the message has its reason and the log.
    """
    started = time.monotonic()
    ThresholdSettings.read(settings.policy)  # a bad policy costs a second here, minutes in a step
    dataset = Dataset.open(settings.dataset)
    champions = _champions(settings)
    settings.work.mkdir(parents=True, exist_ok=True)
    tags = {
        "team": settings.team,
        "purpose": settings.purpose,
        "dataset_version": dataset.sha12,
        "mlflow.source.git.commit": git_commit(),
        "mlflow.source.name": "pipelines.training",
    }
    params = tracking.flat_params(
        settings.model_dump(mode="json", include={"alias", "splits", "lightgbm", "gnn", "gate"})
    )
    name = f"{settings.alias}-{dataset.sha12}"
    with tracking.open_run(settings.tracking_uri, name, tags, params) as run_id:
        folder = settings.work / run_id
        arguments = pipeline_arguments(settings, run_id, champions)
        try:
            _run_process(arguments, folder, progress)
        finally:
            for file in (folder / "pipeline.yaml", folder / "steps.log"):
                tracking.log_file(settings.tracking_uri, run_id, file)
        versions = [registry.get(settings.tracking_uri, name, settings.alias) for name in MODELS]
        metrics = {
            name.removeprefix("pairs.challenger."): value
            for name, value in tracking.run_metrics(settings.tracking_uri, run_id).items()
            if name.startswith("pairs.challenger.")
        }
    return TrainingResult(run_id, versions, metrics, folder / "steps.log", time.monotonic() - started)


def pipeline_arguments(settings: TrainingRun, run_id: str, champions: dict[str, str]) -> dict[str, Any]:
    """The pipeline's parameters."""
    return {
        "dataset_path": str(settings.dataset.absolute()),
        "policy": settings.policy.read_text("utf-8"),
        "alias": settings.alias,
        "bundle_root": str(settings.bundle_root.absolute()),
        "tracking_uri": settings.tracking_uri,
        "run_id": run_id,
        **champions,
        "splits": settings.splits.model_dump(),
        "lightgbm_settings": settings.lightgbm.model_dump(),
        "gnn_settings": settings.gnn,
        "gate_settings": settings.gate.model_dump(),
        "volume_settings": settings.volumes.model_dump(),
    }


def _champions(settings: TrainingRun) -> dict[str, str]:
    """The champion's bundle folders; empty where the first champion is being trained."""
    folders = {"champion_lightgbm": "", "champion_gnn": ""}
    for parameter, name in zip(folders, MODELS[:2], strict=True):
        try:
            uri = registry.get(settings.tracking_uri, name, "champion").storage_uri
        except RegistryError:
            if settings.alias != "champion":
                raise
            return dict.fromkeys(folders, "")
        folders[parameter] = url2pathname(urlsplit(uri).path)
    return folders


def _run_process(arguments: dict[str, Any], folder: Path, progress: Progress | None) -> None:
    """Runs the pipeline in a process of its own: KFP's local runner keeps global state and prints."""
    folder.mkdir(parents=True)
    compile(folder / "pipeline.yaml")
    (folder / "arguments.json").write_text(json.dumps(arguments))
    command = [sys.executable, "-W", "ignore", "-m", "pipelines.training_pipeline", str(folder)]
    # Spinning OpenMP threads make every other process wait, see the README of train_lightgbm.
    environment = {**os.environ, "OMP_WAIT_POLICY": "passive", "PYTHONUNBUFFERED": "1"}
    failed, reason, done = "", "see the log", 0
    with (
        (folder / "steps.log").open("w", encoding="utf-8") as log,
        subprocess.Popen(  # noqa: S603 - our own module
            command,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        ) as process,
    ):
        try:
            for line in process.stdout or ():
                log.write(line)
                raised, finished = _RAISED.match(line), _FINISHED.search(line)
                if raised and not failed:
                    reason = raised[1]
                if finished and finished[2] == "SUCCESS":
                    done += 1
                    if progress:
                        progress(done, len(STEPS))
                elif finished:
                    failed = finished[1]
        finally:
            # The steps are its children: an interrupted run must not go on to register a model.
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    if process.returncode:
        raise StepError(f"step {failed or 'of the runner'!r} failed: {reason} (log: {folder / 'steps.log'})")
