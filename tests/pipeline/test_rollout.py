"""Rollouts of real registered versions through the local KServe, with decisions coming in."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from mlflow import MlflowClient
from rich.console import Console
from typer.testing import CliRunner

from components import canary, rollout
from components.canary import FUSION_URI, Canary
from components.errors import KServeRefused, NotServing, RolledBack
from components.judge_canary.component import judge_canary
from components.judge_canary.logic import JudgeSettings
from components.kserve_api import DETECTOR, GNN, connect, get, serving, transformer_env
from components.model_registry import ModelSet, ModelVersion, registered
from components.observe_canary.component import observe_canary
from components.observe_canary.logic import ObserveSettings
from components.promote_canary.component import promote_canary
from components.raise_canary.component import raise_canary
from components.register_model.logic import register_all
from components.roll_back_canary.component import roll_back_canary
from inference_services.policy_settings import ThresholdSettings
from pipelines import cli_rollout, rollout_run
from pipelines.errors import StepError
from simulators.local_kserve import LocalKServe
from tests.pipeline.model_sets import make_set
from tests.pipeline.model_sets import request as registration
from tests.pipeline.rollout_stage import MANIFESTS, Stage, publish_sets, set_stage, start_kserve
from tests.processes import needs_proc, processes_with, wait_until

POLICY = ThresholdSettings.read(MANIFESTS / "policy" / "threshold_settings.yaml")
MODELS = ("fraud-lightgbm", "fraud-gnn")
# Convinced by some dozens of decisions.
QUICK = {"error": 0.05, "broken_missing": 0.1, "broken_slow": 0.2, "least_decisions": 10}


@pytest.fixture(scope="module")
def kserve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalKServe]:
    with start_kserve(tmp_path_factory.mktemp("kserve")) as server:
        yield server


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ModelSet]:
    return publish_sets(tmp_path_factory.mktemp("sets"))


@pytest.fixture
def stage(kserve: LocalKServe, sets: dict[str, ModelSet], tmp_path: Path, request: pytest.FixtureRequest) -> Stage:
    return set_stage(kserve, sets["champion"], sets[getattr(request, "param", "good")], tmp_path / "home")


def course(stage: Stage, *, patience_s: float = 60) -> rollout_run.Course:
    watch = ObserveSettings(patience_s=patience_s, every_s=0.1, judge=JudgeSettings(**QUICK))
    return rollout_run.Course((25, 50), stage.log, watch, POLICY, ready_s=60)


def run(stage: Stage, **choices: float) -> list[str]:
    """Rolls out; says whenever the aliases would have moved."""
    journal, moved = rollout_run.Journal(stage.home / "journal.jsonl"), list[str]()

    def move_aliases() -> list[ModelVersion]:
        moved.append("champion")
        return [stage.challenger.fusion]

    legs = rollout.legs_between(stage.champion, stage.challenger)
    given = course(stage, **choices)
    rollout_run.run(stage.api, legs, move_aliases, given, journal, lambda *_: None, lambda _: None)
    return moved


def steps(stage: Stage) -> list[tuple[str, str, int | None]]:
    lines = map(json.loads, (stage.home / "journal.jsonl").read_text().splitlines())
    return [(line["action"], line["model"], line["percent"]) for line in lines]


def assert_serves(stage: Stage, models: ModelSet) -> None:
    """These versions and no others, with the fusion bundle that was made for them."""
    for service, version in ((DETECTOR, models.lightgbm), (GNN, models.gnn)):
        now = serving(stage.api, service)
        assert (now.storage_uri, now.percent, now.ready) == (version.storage_uri, None, True)
        assert [share.percent for share in now.shares] == [100]
        folder = str(stage.kserve.state_dir / "models" / f"{service}-predictor")
        wait_until(lambda folder=folder: len(processes_with(folder)) == 1)
    assert transformer_env(get(stage.api, DETECTOR), FUSION_URI) == models.fusion.storage_uri


@needs_proc
def test_a_good_challenger_is_raised_promoted_and_becomes_the_champion(stage: Stage) -> None:
    with stage.traffic():
        assert run(stage) == ["champion"]
    assert_serves(stage, stage.challenger)
    of_one = [("start", 25), ("ramp", 50), ("promote", 100)]
    assert steps(stage) == [(action, model, percent) for model in MODELS for action, percent in of_one]


@needs_proc
@pytest.mark.parametrize("stage", ["failing"], indirect=True)
def test_a_challenger_that_fails_goes_back_by_itself(stage: Stage) -> None:
    with stage.traffic(), pytest.raises(RolledBack, match=r"fraud-lightgbm at 25 %: (share|missing answers): "):
        run(stage)
    assert_serves(stage, stage.champion)
    assert steps(stage)[-1][:2] == ("rollback", "fraud-lightgbm")


@needs_proc
@pytest.mark.parametrize("stage", ["broken"], indirect=True)
def test_a_challenger_that_does_not_load_goes_back_before_it_answers(stage: Stage) -> None:
    with stage.traffic(), pytest.raises(RolledBack, match="the bundle cannot be loaded"):
        run(stage)
    assert_serves(stage, stage.champion)


def test_a_canary_without_traffic_goes_back_when_its_time_is_up(stage: Stage) -> None:
    with pytest.raises(RolledBack, match=r"not shown to be harmless within 0\.2 s"):
        run(stage, patience_s=0.2)
    assert_serves(stage, stage.champion)


def test_what_neither_version_is_is_left_alone(stage: Stage, sets: dict[str, ModelSet]) -> None:
    others = [models.lightgbm.storage_uri for models in (sets["failing"], sets["broken"])]
    fusions = [models.fusion.storage_uri for models in (sets["broken"], sets["failing"])]
    with pytest.raises(NotServing, match="neither the champion nor the challenger"):
        canary.raise_to(stage.api, Canary(DETECTOR, *others, *fusions), 5, 60)
    assert_serves(stage, stage.champion)


Fraud = Callable[..., str]


@pytest.fixture
def registered_stage(kserve: LocalKServe, fresh_url: str, tmp_path: Path) -> Stage:
    """With a champion and a challenger that a real registry knows."""
    client = MlflowClient(fresh_url)
    run_id = client.create_run(client.create_experiment(f"rollout-{tmp_path.name}")).info.run_id
    champion = make_set(tmp_path / "champion", "champion")
    register_all(client, run_id, champion, registration(tmp_path, "champion"))
    challenger = make_set(tmp_path / "challenger", "challenger", champion=champion)
    register_all(client, run_id, challenger, registration(tmp_path, "challenger"))
    known = (registered(fresh_url, alias) for alias in ("champion", "challenger"))
    return set_stage(kserve, *known, tmp_path / "home")


@pytest.fixture
def fraud(registered_stage: Stage, fresh_url: str, monkeypatch: pytest.MonkeyPatch) -> Fraud:
    """`fraud rollout`; what it printed."""

    def invoke(*arguments: str) -> str:
        out = StringIO()
        monkeypatch.setattr(cli_rollout, "console", Console(file=out, width=240))
        at = ["--home", str(registered_stage.home), "--kubeconfig", str(registered_stage.kserve.kubeconfig)]
        given = {"obj": lambda _: nullcontext(fresh_url), "catch_exceptions": False}
        CliRunner().invoke(cli_rollout.rollout_app, [*arguments, *at], **given)
        return out.getvalue()

    return invoke


def test_a_rollout_by_hand_back_and_to_the_end(registered_stage: Stage, fresh_url: str, fraud: Fraud) -> None:
    stage = registered_stage
    with pytest.raises(StepError, match="start it with `fraud rollout start`"):
        fraud("ramp", "--percent", "50")
    with pytest.raises(NotServing, match="no canary of fraud-lightgbm has a share"):
        fraud("promote")
    assert "10 % of fraud-lightgbm" in fraud("start", "--percent", "10")
    with pytest.raises(StepError, match="`fraud rollout ramp --percent N` changes it"):
        fraud("start", "--percent", "10")
    assert "fraud-gnn comes next" in fraud("promote")
    fraud("start")
    fraud("rollback")
    assert_serves(stage, stage.champion)

    fraud("start")
    assert "50 % of fraud-lightgbm" in fraud("ramp", "--percent", "50")
    shown = fraud("status")
    assert "50 %" in shown
    assert "not begun" in shown
    fraud("promote")
    assert registered(fresh_url, "champion") == stage.champion
    assert "5 % of fraud-gnn" in fraud("start")
    assert "champion: fraud-fusion 2" in fraud("promote")
    assert_serves(stage, stage.challenger)


@needs_proc
def test_the_steps_of_the_pipeline_go_back_and_to_the_end(
    registered_stage: Stage, fresh_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage, verdict = registered_stage, SimpleNamespace(path=str(tmp_path / "verdict.json"))
    monkeypatch.setenv("KUBECONFIG", str(stage.kserve.kubeconfig))
    policy = (MANIFESTS / "policy" / "threshold_settings.yaml").read_text()
    watch = {"decisions_path": str(stage.log), "policy": policy}
    settings = {"every_s": 0.1, "judge": QUICK}

    def raised_and_observed(model: str, settings: dict[str, Any]) -> None:
        since = raise_canary.python_func(fresh_url, model, 50)
        arguments = {"tracking_uri": fresh_url, "model": model, "percent": 50, "since": since, "settings": settings}
        observe_canary.python_func(**arguments, **watch, verdict=verdict)
        judge_canary.python_func(verdict, model, 50)

    with pytest.raises(NotServing, match="the one under way, or next, is fraud-lightgbm"):
        raise_canary.python_func(fresh_url, "fraud-gnn", 50)
    assert roll_back_canary.python_func(fresh_url) == []
    with pytest.raises(RolledBack, match="fraud-lightgbm at 50 %: time: not shown"):
        raised_and_observed("fraud-lightgbm", {"patience_s": 0})
    assert roll_back_canary.python_func(fresh_url) == [GNN, DETECTOR]
    assert_serves(stage, stage.champion)

    with stage.traffic():
        for model, promoted in zip(MODELS, ({}, dict.fromkeys((*MODELS, "fraud-fusion"), 2)), strict=True):
            raised_and_observed(model, settings)
            assert promote_canary.python_func(fresh_url) == promoted
            assert roll_back_canary.python_func(fresh_url) == []
    assert_serves(stage, stage.challenger)


def test_shares_must_rise() -> None:
    for shares in ("50,5", "5,5", "0,5", "5,100", "few"):
        with pytest.raises(StepError, match=r"--shares '.*'"):
            CliRunner().invoke(cli_rollout.rollout_app, ["run", "--shares", shares], catch_exceptions=False)


def test_no_cluster_is_said_in_a_line(tmp_path: Path) -> None:
    with pytest.raises(KServeRefused, match="set KUBECONFIG, or start a local one"):
        connect(tmp_path / "none")
