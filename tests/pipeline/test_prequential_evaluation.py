"""The whole evaluation on a small company with much fraud: real features, real models, one thread, small budgets."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from components.train_gnn.settings import GnnSettings
from components.train_lightgbm.settings import LightGbmSettings
from feature_repo.datasets import snapshot
from feature_repo.event_log import log_days
from feature_repo.ingestion import ingest_files
from inference_services.policy_settings import ThresholdSettings
from pipelines.local_stack import MANIFESTS
from pipelines.prequential import jobs
from pipelines.prequential.material import Source, recent
from pipelines.prequential.run import Evaluation, evaluate_over_time
from pipelines.prequential.settings import PrequentialSettings
from pipelines.workspace import Workspace
from simulators.ride_hailing import WorldSettings, read_truth, simulate
from tests.checks.model_bounds import bound_rows, context_rows

SETTINGS = PrequentialSettings(
    weeks=2,
    refit_every=1,
    history_days=12,
    valid_days=3,
    calibrate_days=3,
    warm_up_days=1,
    prefix_days=6,
    lightgbm=LightGbmSettings(rounds=20, min_data_in_leaf=5, num_threads=1),
    gnn=GnnSettings(epochs=1, hidden=8),
    bootstrap_rounds=20,
    workers=1,
)


@pytest.fixture(scope="module")
def policy() -> ThresholdSettings:
    found = ThresholdSettings.read(MANIFESTS / "policy" / "threshold_settings.yaml")
    return found.model_copy(update={"label_maturation_days": {"default": 2}, "review_capacity_per_day": 5})


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Source:
    workspace = Workspace(tmp_path_factory.mktemp("prequential") / "home")
    simulate(WorldSettings(days=28, events_per_day=300, riders=300, drivers=40, fraud_share=0.06), workspace.world)
    ingest_files(workspace.world / "events", workspace.event_log, workspace.pseudonymiser())
    cutoff = log_days(workspace.event_log)[-1] + timedelta(days=1)
    dataset = snapshot(workspace.event_log, workspace.label_log, workspace.datasets, cutoff)
    truth = read_truth(workspace.world).to_pandas()[["event_id", "is_fraud", "typology", "ring_id"]]
    return Source("seed 7", dataset, 7, truth)


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("work")


@pytest.fixture(scope="module")
def found(source: Source, policy: ThresholdSettings, work: Path) -> Evaluation:
    return evaluate_over_time([source], SETTINGS, policy, work, lambda _: lambda _done, _total: None)


def test_every_contender_judges_the_same_events_of_the_last_weeks(found: Evaluation, source: Source) -> None:
    end = source.dataset.last_day + timedelta(days=1)
    assert found.scores["cutoff"].unique().tolist() == [str(end - timedelta(days=14)), str(end - timedelta(days=7))]
    assert found.scores["week"].tolist() == found.scores["cutoff"].tolist()
    names = ["fusion", "lightgbm", "gnn", "lightgbm_neighbours", "clean_labels_fusion"]
    assert found.scores[names].notna().all(axis=None)
    # Controls are trained on the first refit only.
    first = found.scores["cutoff"] == found.scores["cutoff"].iloc[0]
    assert found.scores["shuffled_edges_fusion"].notna().eq(first).all()
    assert found.scores["event_id"].is_unique
    fraud = source.truth[source.truth["is_fraud"]]["event_id"]  # type: ignore[index]
    assert found.scores["y"].eq(found.scores["event_id"].isin(fraud)).all()


def test_the_real_features_do_not_look_ahead_and_the_planted_one_does(found: Evaluation) -> None:
    assert (found.leaks["tabular"], found.leaks["graph"]) == ({}, {})
    assert list(found.leaks["planted"]) == ["rider_requests_24h"]


def test_every_bound_has_a_row_and_the_report_is_written(found: Evaluation, tmp_path: Path) -> None:
    rows = [*context_rows(found), *bound_rows(found)]
    assert {row.name for row in rows if row.met is not None} >= {
        "fusion AP of the upper bound's",
        "calibration slope",
        "the same with edges shuffled",
        "good events blocked",
        "FPR ratio, city",
        "control: a planted leak is caught",
    }
    found.write(tmp_path)
    content = json.loads((tmp_path / "evaluation.json").read_text())
    assert set(content["models"]) >= {"fusion", "rules", "lightgbm_neighbours"}
    assert "edges shuffled" in (tmp_path / "report.html").read_text()
    assert len(pd.read_parquet(tmp_path / "scores.parquet")) == len(found.scores)


def test_a_second_run_trains_nothing_and_finds_the_same(
    found: Evaluation, source: Source, policy: ThresholdSettings, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(jobs, "log_odds", refuse)
    again = evaluate_over_time([source], SETTINGS, policy, work, lambda _: lambda _done, _total: None)
    pd.testing.assert_frame_equal(again.scores, found.scores)
    other = SETTINGS.model_copy(update={"history_days": 11})
    with pytest.raises(AssertionError, match="trained again"):
        evaluate_over_time([source], other, policy, work, lambda _: lambda _done, _total: None)


def test_without_the_truth_only_weeks_whose_labels_have_settled_are_judged(
    source: Source, policy: ThresholdSettings, work: Path
) -> None:
    labelled = Source("seed 7", source.dataset, 7)
    settings = SETTINGS.model_copy(update={"weeks": 1})
    found = evaluate_over_time([labelled], settings, policy, work, lambda _: lambda _done, _total: None)
    last = found.scores["event_timestamp"].max()
    assert last < pd.Timestamp(source.dataset.cutoff, tz="UTC") - pd.Timedelta(days=2)
    assert "clean_labels_fusion" not in found.measures


def test_a_recent_part_is_a_dataset_of_its_own(source: Source, tmp_path: Path) -> None:
    part = recent(source.dataset, 10, tmp_path)
    part.verify()
    assert (part.last_day, (part.last_day - part.first_day).days) == (source.dataset.last_day, 9)
    assert recent(source.dataset, 100, tmp_path) is source.dataset


@pytest.mark.parametrize("seeds", ["", "7 x", "-1"])
def test_seeds_that_are_no_numbers_are_refused(seeds: str, tmp_path: Path) -> None:
    from pipelines.cli import app

    outcome = CliRunner().invoke(app, ["evaluate", "--home", str(tmp_path), f"--seeds={seeds}"])
    assert "write it as '7 8 9'" in str(outcome.exception)
