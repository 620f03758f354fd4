"""The training pipeline: from a dataset to registered bundles, on a cluster or in this machine's processes."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from components.register_model.logic import MODELS
from feature_repo.datasets import Dataset
from inference_services.policy_settings import ThresholdSettings
from pipelines import registry, tracking
from pipelines.local_pipeline import compile_pipeline, run_process
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


@dataclass(frozen=True)
class TrainingResult:
    """What a run left behind.

    Attributes:
        run_id: its MLflow run.
        versions: what it registered: LightGBM, GNN, fusion.
        metrics: the challenger pair's measures on the test days.
        log: output of all steps.
        wall_s: seconds it took.
        kept: where the run waits for MLflow, which was away: nothing is registered yet. None when MLflow has it all.
    """

    run_id: str
    versions: list[ModelVersion]
    metrics: dict[str, float]
    log: Path
    wall_s: float
    kept: Path | None = None


def compile(path: Path) -> None:  # noqa: A001 - the word of KFP for it; used as training.compile
    """Writes the pipeline as the YAML that Kubeflow takes; the same bytes every time."""
    from pipelines.training_pipeline import training_pipeline  # noqa: PLC0415 - loads KFP, which takes seconds

    compile_pipeline(training_pipeline, path)


def run_local(settings: TrainingRun, progress: Progress | None = None) -> TrainingResult:
    """Runs the pipeline in this machine's processes, inside an MLflow run.

    Args:
        settings: what to train on and where results go.
        progress: called with (steps done, steps in all).

    Raises:
        RegistryError: a challenger is asked for and there is no champion, or none is known while MLflow is away.
        StepError: a step failed; the message has its reason and the log.
    """
    started = time.monotonic()
    ThresholdSettings.read(settings.policy)  # a bad policy costs a second here, minutes in a step
    dataset = Dataset.open(settings.dataset)
    settings.work.mkdir(parents=True, exist_ok=True)
    outbox = tracking.outbox_root(settings.work)
    tracking.push_before(settings.tracking_uri, outbox)
    champions = _champions(settings)
    name, tags, params = run_record(settings, dataset)

    def finished(steps: int) -> None:
        if progress:
            progress(steps, len(STEPS))

    with tracking.open_run(settings.tracking_uri, name, tags, params, outbox) as run:
        folder = settings.work / run.run_id
        arguments = pipeline_arguments(settings, run.run_id, champions)
        environment = {tracking.OUTBOX_VARIABLE: str(outbox.absolute())}
        try:
            compile(folder / "pipeline.yaml")
            run_process("pipelines.training_pipeline", arguments, folder, finished=finished, environment=environment)
        finally:
            for file in (folder / "pipeline.yaml", folder / "steps.log"):
                run.log_file(file)
        metrics = challenger_metrics(run.metrics())
    names = () if run.kept else MODELS
    versions = [registry.get(settings.tracking_uri, name, settings.alias) for name in names]
    return TrainingResult(run.run_id, versions, metrics, folder / "steps.log", time.monotonic() - started, run.kept)


class RunRecord(NamedTuple):
    """What MLflow keeps of a run from its start.

    Attributes:
        name: the run's name.
        tags: who made it, why, from which dataset and commit.
        params: flat settings.
    """

    name: str
    tags: dict[str, str]
    params: dict[str, str]


def run_record(settings: TrainingRun, dataset: Dataset) -> RunRecord:
    """What MLflow keeps of a run from its start."""
    tags = {
        "team": settings.team,
        "purpose": settings.purpose,
        "dataset_version": dataset.sha12,
        "mlflow.source.git.commit": git_commit(),
        "mlflow.source.name": "pipelines.training",
    }
    chosen = settings.model_dump(mode="json", include={"alias", "splits", "lightgbm", "gnn", "gate"})
    return RunRecord(f"{settings.alias}-{dataset.sha12}", tags, tracking.flat_params(chosen))


def challenger_metrics(metrics: Mapping[str, float]) -> dict[str, float]:
    """Of a run's metrics those of the new pair, under their plain names."""
    prefix = "pairs.challenger."
    return {name.removeprefix(prefix): value for name, value in metrics.items() if name.startswith(prefix)}


def pipeline_arguments(settings: TrainingRun, run_id: str, champions: dict[str, str]) -> dict[str, Any]:
    """The pipeline's parameters."""
    return {
        "dataset_path": str(settings.dataset.absolute()),
        "policy": settings.policy.read_text("utf-8"),
        "alias": settings.alias,
        "bundle_root": str(settings.bundle_root.absolute()),
        "bundle_claim": "",
        "tracking_uri": settings.tracking_uri,
        "run_id": run_id,
        **champions,
        "splits": settings.splits.model_dump(),
        "lightgbm_settings": settings.lightgbm.model_dump(),
        "gnn_settings": settings.gnn.model_dump(),
        "gate_settings": settings.gate.model_dump(),
        "volume_settings": settings.volumes.model_dump(),
    }


def _champions(settings: TrainingRun) -> dict[str, str]:
    """The champion's bundle folders; empty where the first champion is being trained."""
    found = registry.champion_folders(settings.tracking_uri, settings.work / "last_champion.json", settings.alias)
    return {"champion_lightgbm": found[MODELS[0]], "champion_gnn": found[MODELS[1]]}
