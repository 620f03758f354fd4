"""The search for LightGBM's settings."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import count
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from components.mlflow_client import mlflow_client
from components.train_lightgbm.bundle import write_bundle
from components.train_lightgbm.component import train_lightgbm
from components.train_lightgbm.logic import train
from components.train_lightgbm.search import search
from components.train_lightgbm.settings import LightGbmSettings
from components.train_lightgbm.trial_runs import TrialRuns
from components.train_lightgbm.trials import Search, Trial
from inference_services.lightgbm_predictor.scorer import LightGbmScorer
from pipelines import training

SETTINGS = LightGbmSettings(rounds=30, patience=15, num_leaves=7, num_threads=1, trials=4)


@pytest.fixture(scope="module")
def found(training_set: pd.DataFrame) -> Search:
    return search(training_set, SETTINGS)


def test_the_same_seed_finds_the_same_settings(found: Search, training_set: pd.DataFrame) -> None:
    assert search(training_set, SETTINGS) == found
    other = search(training_set, SETTINGS.model_copy(update={"seed": 8}))
    assert [t.settings for t in other.trials] != [t.settings for t in found.trials]


def test_the_best_trial_is_at_least_the_settings_as_given(found: Search) -> None:
    assert found.ended == "all trials done"
    assert [t.number for t in found.trials] == [0, 1, 2, 3]
    assert found.trials[0].settings["num_leaves"] == SETTINGS.num_leaves
    assert found.trials[found.best].average_precision == max(t.average_precision for t in found.trials)
    assert found.settings.model_dump(include=set(found.trials[0].settings)) == found.trials[found.best].settings


def test_training_with_what_was_found_repeats_the_trial(found: Search, training_set: pd.DataFrame) -> None:
    trained = train(training_set, found.settings)
    assert trained.validation_average_precision == found.trials[found.best].average_precision
    assert trained.booster.num_trees() == found.trials[found.best].trees


def test_a_search_out_of_time_keeps_the_best_so_far(found: Search, training_set: pd.DataFrame) -> None:
    clock: Callable[[], float] = count(0.0, 10.0).__next__  # each look takes ten seconds
    short = search(training_set, SETTINGS.model_copy(update={"search_seconds": 15.0}), clock=clock)
    assert short.ended == "out of time"
    assert short.trials == found.trials[:2]


def test_ctrl_c_ends_the_search_and_keeps_the_best_so_far(found: Search, training_set: pd.DataFrame) -> None:
    def interrupt(trial: Trial) -> None:
        if trial.number == 1:
            raise KeyboardInterrupt

    cut = search(training_set, SETTINGS, interrupt)
    assert cut.ended == "interrupted"
    assert cut.trials == found.trials[:2]


def test_settings_outside_of_the_space_are_tried_all_the_same(training_set: pd.DataFrame) -> None:
    odd = SETTINGS.model_copy(update={"lambda_l2": 0.0, "trials": 2})
    assert search(training_set, odd).trials[0].settings["lambda_l2"] == 0.0


def test_the_bundle_tells_of_the_search(found: Search, training_set: pd.DataFrame, tmp_path: Path) -> None:
    trained = train(training_set, found.settings)
    bundle = write_bundle(tmp_path / "b", trained, training_set, found.settings, "0" * 64, found=found)
    told = LightGbmScorer.load(bundle.folder).bundle.read_json("search.json")
    assert told == json.loads(json.dumps(found.as_dict()))
    assert f"the best of 4 trials (all trials done), trial {found.best}" in (tmp_path / "b/model_card.md").read_text()
    again = write_bundle(tmp_path / "again", trained, training_set, found.settings, "0" * 64, found=found)
    assert again.sha256 == bundle.sha256


def test_each_trial_is_a_run_under_the_training_s(found: Search, mlflow_url: str) -> None:
    client = mlflow_client(mlflow_url)
    experiment = client.create_experiment("search")
    parent = client.create_run(experiment).info.run_id
    keep = TrialRuns(mlflow_url, parent)
    for trial in found.trials:
        keep(trial)
    runs = client.search_runs([experiment], f"tags.mlflow.parentRunId = '{parent}'", order_by=["start_time"])
    assert {run.info.run_name for run in runs} == {f"trial-{t.number}" for t in found.trials}
    assert {run.info.status for run in runs} == {"FINISHED"}
    kept = {run.info.run_name: run.data.metrics["valid.average_precision"] for run in runs}
    assert kept == {f"trial-{t.number}": t.average_precision for t in found.trials}
    first = next(run for run in runs if run.info.run_name == "trial-0")
    assert first.data.params["num_leaves"] == "7"


def test_a_server_that_refuses_is_told_of_once_and_stops_nothing(
    found: Search, mlflow_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    keep = TrialRuns(mlflow_url, "0" * 32)  # no such run
    for trial in found.trials:
        keep(trial)
    assert caplog.text.count("trials are not kept in MLflow, only in search.json") == 1


class Artifact:
    """What KFP hands to a step: where to write, and what to say of it."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self.metadata: dict[str, object] = {"dataset_sha256": "0" * 64}


@pytest.mark.parametrize("with_server", [True, False])
def test_the_step_searches_with_and_without_a_server(
    training_set: pd.DataFrame, tmp_path: Path, with_server: bool, request: pytest.FixtureRequest
) -> None:
    rows, model, scores = (Artifact(tmp_path / name) for name in ("rows", "model", "scores"))
    training_set.to_parquet(rows.path)
    server: dict[str, str] = {}
    if with_server:
        url = request.getfixturevalue("mlflow_url")
        client = mlflow_client(url)
        experiment = client.create_experiment("step")
        server = {"tracking_uri": url, "run_id": client.create_run(experiment).info.run_id}
    train_lightgbm.python_func(rows, model, scores, SETTINGS.model_copy(update={"trials": 1}).model_dump(), **server)
    told = json.loads((tmp_path / "model" / "search.json").read_text())
    assert len(told["trials"]) == 1
    assert np.isfinite(pd.read_parquet(scores.path)["lgb_log_odds"]).all()
    if with_server:
        assert len(client.search_runs([experiment], f"tags.mlflow.parentRunId = '{server['run_id']}'")) == 1


def test_the_pipeline_tells_the_step_where_its_run_is(tmp_path: Path) -> None:
    training.compile(tmp_path / "pipeline.yaml")
    graph, _platform = yaml.safe_load_all((tmp_path / "pipeline.yaml").read_text())
    given = graph["root"]["dag"]["tasks"]["train-lightgbm"]["inputs"]["parameters"]
    assert {name: given[name] for name in ("tracking_uri", "run_id")} == {
        name: {"componentInputParameter": name} for name in ("tracking_uri", "run_id")
    }
