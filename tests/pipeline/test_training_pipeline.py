"""The whole training pipeline through KFP's local runner, on a small company with a real MLflow."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
import yaml
from mlflow import MlflowClient

from components.build_training_set.logic import SplitSettings
from components.gate.logic import GateSettings
from components.train_lightgbm.settings import LightGbmSettings
from feature_repo.datasets import Dataset
from inference_services.bundle import verify
from inference_services.lightgbm_predictor.scorer import LightGbmScorer
from inference_services.transformer.fusion import Fusion, Score
from pipelines import training
from pipelines.compiled import GOLDEN
from pipelines.errors import RegistryError, StepError
from pipelines.local_pipeline import run_process
from pipelines.settings import TrainingRun
from tests.open_gate import OPEN_GATE


def settings(dataset: Path, policy: Path, mlflow_url: str, root: Path, **others: object) -> TrainingRun:
    chosen = {
        "splits": SplitSettings(warm_up_days=1, train_share=0.5),
        "lightgbm": LightGbmSettings(rounds=20, min_data_in_leaf=5, num_threads=1),
        "gnn": {"epochs": 1, "hidden": 8},
        "gate": GateSettings.model_validate(OPEN_GATE),
        "alias": "champion",
        **others,
    }
    return TrainingRun(
        dataset=dataset,
        work=root / "runs",
        tracking_uri=mlflow_url,
        bundle_root=root / "bundles",
        policy=policy,
        **chosen,  # type: ignore[arg-type]
    )


def test_the_gate_comes_before_registration() -> None:
    golden = yaml.safe_load_all((GOLDEN / "training_pipeline.yaml").read_text())
    tasks = next(golden)["root"]["dag"]["tasks"]
    assert set(tasks) == set(training.STEPS)
    assert "gate" in tasks["register-model"]["dependentTasks"]


def test_a_failed_step_is_named_with_its_reason(
    dataset: Dataset, quick_policy: Path, mlflow_url: str, tmp_path: Path
) -> None:
    copy = tmp_path / "dataset"
    shutil.copytree(dataset.path, copy)
    next(copy.glob("labels/day=*/*.parquet")).unlink()
    with pytest.raises(StepError, match=r"step 'validate-events' failed: dataset .* was changed"):
        training.run_local(settings(copy, quick_policy, mlflow_url, tmp_path))
    client = MlflowClient(mlflow_url)
    experiment = client.get_experiment_by_name("fraud-training")
    assert [r.info.status for r in client.search_runs([experiment.experiment_id])][:1] == ["FAILED"]


def test_settings_that_a_step_refuses_are_named_with_the_field(
    dataset: Dataset, quick_policy: Path, mlflow_url: str, tmp_path: Path
) -> None:
    run = settings(dataset.path, quick_policy, mlflow_url, tmp_path)
    arguments = training.pipeline_arguments(run, "no run", {"champion_lightgbm": "", "champion_gnn": ""})
    arguments["volume_settings"] = {"least_share": "much"}
    expected = (
        r"step 'validate-events' failed: 1 validation error for VolumeSettings least_share Input should be a valid"
    )
    with pytest.raises(StepError, match=expected):
        run_process("pipelines.training_pipeline", arguments, tmp_path / "run", finished=lambda _: None)


@pytest.mark.slow
def test_a_dataset_becomes_registered_bundles_that_serve(
    dataset: Dataset, quick_policy: Path, mlflow_url: str, tmp_path: Path
) -> None:
    with pytest.raises(RegistryError, match="no champion registered"):
        training.run_local(settings(dataset.path, quick_policy, mlflow_url, tmp_path, alias="challenger"))

    moved: list[tuple[int, int]] = []
    result = training.run_local(
        settings(dataset.path, quick_policy, mlflow_url, tmp_path), lambda done, total: moved.append((done, total))
    )
    assert moved == [(i, 8) for i in range(1, 9)]

    lightgbm, gnn, fusion = (Path(urlsplit(v.storage_uri).path) for v in result.versions)
    assert verify(gnn, "fraud-gnn").label == f"{result.versions[1].version}-{result.versions[1].sha12}"
    scorer, combined = LightGbmScorer.load(lightgbm), Fusion.load(fusion)
    with np.load(lightgbm / "reference_sample.npz", allow_pickle=False) as sample:
        scores = scorer.score(sample["X"])
    n = len(scores.log_odds)
    answer = combined.combine(
        Score(scores.log_odds, scorer.bundle.sha12), Score(scores.log_odds, result.versions[1].sha12), "full", n
    )
    assert (answer.used_lightgbm, answer.used_gnn) == (True, True)
    assert np.isfinite(answer.probability).all()

    client = MlflowClient(mlflow_url)
    run = client.get_run(result.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.tags["dataset_version"] == dataset.sha12
    assert {"team", "purpose", "mlflow.source.git.commit"} <= set(run.data.tags)
    assert run.data.params["lightgbm.rounds"] == "20"
    assert 0 < result.metrics["average_precision"] <= 1
    artifacts = {
        a.path for folder in ("", "evaluation", "fraud-gnn") for a in client.list_artifacts(run.info.run_id, folder)
    }
    assert {"evaluation/evaluation.json", "evaluation/evaluation.html", "pipeline.yaml", "steps.log"} <= artifacts
    assert "fraud-gnn/weights.safetensors" in artifacts
    assert not [f for f in (tmp_path / "bundles").rglob("*") if f.suffix in {".pkl", ".pickle"}]
    evaluation = next((tmp_path / "runs" / result.run_id).rglob("evaluate/evaluation"))
    found = json.loads(evaluation.read_text())
    assert set(found["pairs"]) == {"challenger", "lightgbm_alone", "gnn_alone"}
    assert set(found["pairs"]["challenger"]["fairness"]) == {"city", "device_tier", "tenure"}
    assert min(found["latency_ms"].values()) > 0
    assert (evaluation.parent / "report").read_text().startswith("<!doctype html>")
