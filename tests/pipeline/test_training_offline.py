"""The whole training pipeline while MLflow is away, and what is in MLflow once it is back."""

from __future__ import annotations

from pathlib import Path

import pytest
from mlflow import MlflowClient

from components.build_training_set.logic import SplitSettings
from components.train_lightgbm.settings import LightGbmSettings
from feature_repo.datasets import Dataset
from inference_services.bundle import verify
from pipelines import registry, training
from pipelines.registry_export import read_registry
from pipelines.settings import TrainingRun
from pipelines.tracking import outbox_root, push_kept
from simulators.local_services import free_port
from tests.open_gate import OPEN_GATE


@pytest.mark.slow
def test_training_needs_no_mlflow_and_nothing_is_lost(
    dataset: Dataset, quick_policy: Path, fresh_url: str, tmp_path: Path
) -> None:
    settings = TrainingRun(
        dataset=dataset.path,
        work=tmp_path / "runs",
        tracking_uri=f"http://127.0.0.1:{free_port()}",
        bundle_root=tmp_path / "bundles",
        policy=quick_policy,
        alias="champion",
        splits=SplitSettings(warm_up_days=1, train_share=0.5),
        lightgbm=LightGbmSettings(rounds=20, min_data_in_leaf=5, num_threads=1),
        gnn={"epochs": 1, "hidden": 8},
        gate=OPEN_GATE,
    )
    result = training.run_local(settings)
    assert result.kept is not None
    assert result.versions == []
    assert 0 < result.metrics["average_precision"] <= 1
    assert not settings.bundle_root.exists()

    (pushed,) = push_kept(fresh_url, outbox_root(settings.work))
    assert not pushed.refused
    run = MlflowClient(fresh_url).get_run(str(pushed.run_id))
    assert run.info.status == "FINISHED"
    assert run.data.metrics["pairs.challenger.average_precision"] == result.metrics["average_precision"]
    artifacts = {
        a.path for folder in ("", "evaluation") for a in MlflowClient(fresh_url).list_artifacts(run.info.run_id, folder)
    }
    assert {"evaluation/evaluation.json", "pipeline.yaml", "steps.log", "cards"} <= artifacts
    for version in read_registry(fresh_url).versions():
        assert version.aliases == ("champion",)
        assert version.lineage.dataset_sha256 == dataset.sha256
        assert version.lineage.pipeline_run
        assert version.average_precision is not None
        assert verify(registry.get(fresh_url, version.model, "champion").folder, version.model).sha256 == version.sha256
