"""Rollouts of real registered versions through the local KServe, with decisions coming in."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from components.canary import FUSION_URI
from components.errors import KServeRefused, NotServing, RolledBack
from components.judge_canary.logic import JudgeSettings
from components.kserve_api import DETECTOR, GNN, connect, get, serving, transformer_env
from inference_services.policy_settings import ThresholdSettings
from pipelines import cli_rollout, deploy, rollout, rollout_run
from pipelines.errors import StepError
from pipelines.steps import ModelSet, registered
from simulators.local_kserve import LocalKServe
from simulators.local_services import MlflowServer
from tests.pipeline.conftest import empty_registry
from tests.pipeline.rollout_stage import MANIFESTS, Stage, register_sets, set_stage, start_kserve
from tests.processes import needs_proc, processes_with, wait_until

POLICY = ThresholdSettings.read(MANIFESTS / "policy" / "threshold_settings.yaml")
MODELS = ("fraud-lightgbm", "fraud-gnn")


@pytest.fixture(scope="module")
def kserve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalKServe]:
    with start_kserve(tmp_path_factory.mktemp("kserve")) as server:
        yield server


@pytest.fixture(scope="module")
def sets(registry_server: MlflowServer, tmp_path_factory: pytest.TempPathFactory) -> dict[str, ModelSet]:
    empty_registry(registry_server.url)
    return register_sets(registry_server.url, tmp_path_factory.mktemp("sets"))


@pytest.fixture
def stage(
    kserve: LocalKServe,
    registry_server: MlflowServer,
    sets: dict[str, ModelSet],
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> Stage:
    word = getattr(request, "param", "good")
    return set_stage(kserve, registry_server.url, sets, word, tmp_path / "home")


def course(stage: Stage, *, patience_s: float = 60) -> rollout_run.Course:
    settings = JudgeSettings(least_decisions=50)
    return rollout_run.Course((25, 50), stage.log, 50.0, patience_s, 0.1, settings, None, POLICY, ready_s=60)


def run(stage: Stage, **choices: float) -> None:
    journal = rollout.Journal(stage.home / "journal.jsonl")
    rollout_run.run(stage.api, stage.mlflow_url, course(stage, **choices), journal, lambda *_: None, lambda _: None)


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
        run(stage)
    assert_serves(stage, stage.challenger)
    assert registered(stage.mlflow_url, "champion").lightgbm.version == stage.challenger.lightgbm.version
    of_one = [("start", 25), ("ramp", 50), ("promote", 100)]
    assert steps(stage) == [(action, model, percent) for model in MODELS for action, percent in of_one]


@needs_proc
@pytest.mark.parametrize("stage", ["failing"], indirect=True)
def test_a_challenger_that_fails_goes_back_by_itself(stage: Stage) -> None:
    with stage.traffic(), pytest.raises(RolledBack, match=r"fraud-lightgbm at 25 %: (share|missing answers): "):
        run(stage)
    assert_serves(stage, stage.champion)
    assert registered(stage.mlflow_url, "champion").lightgbm.version == stage.champion.lightgbm.version
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


Fraud = Callable[..., str]


@pytest.fixture
def fraud(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> Fraud:
    """`fraud rollout`; what it printed."""

    def invoke(*arguments: str) -> str:
        out = StringIO()
        monkeypatch.setattr(cli_rollout, "console", Console(file=out, width=240))
        given = [*arguments, "--home", str(stage.home), "--kubeconfig", str(stage.kserve.kubeconfig)]
        CliRunner().invoke(
            cli_rollout.rollout_app, given, obj=lambda _: nullcontext(stage.mlflow_url), catch_exceptions=False
        )
        return out.getvalue()

    return invoke


def test_a_rollout_by_hand_one_model_after_the_other(stage: Stage, fraud: Fraud) -> None:
    with pytest.raises(StepError, match="start it with `fraud rollout start`"):
        fraud("ramp", "--percent", "50")
    with pytest.raises(NotServing, match="no canary of fraud-lightgbm has a share"):
        fraud("promote")
    assert "10 % of fraud-lightgbm" in fraud("start", "--percent", "10")
    with pytest.raises(StepError, match="`fraud rollout ramp --percent N` changes it"):
        fraud("start", "--percent", "10")
    assert "50 % of fraud-lightgbm" in fraud("ramp", "--percent", "50")
    shown = fraud("status")
    assert "50 %" in shown
    assert "not begun" in shown
    assert "fraud-gnn comes next" in fraud("promote")
    assert registered(stage.mlflow_url, "champion").lightgbm.version == stage.champion.lightgbm.version
    assert "5 % of fraud-gnn" in fraud("start")
    assert "champion: fraud-fusion" in fraud("promote")
    assert_serves(stage, stage.challenger)


def test_a_rollback_by_hand_brings_both_models_back(stage: Stage, fraud: Fraud) -> None:
    fraud("start")
    fraud("promote")
    fraud("start")
    fraud("rollback")
    assert_serves(stage, stage.champion)
    assert registered(stage.mlflow_url, "champion").gnn.version == stage.champion.gnn.version
    assert "not begun" in fraud("status")


def test_what_neither_version_is_is_left_alone(stage: Stage, sets: dict[str, ModelSet], fraud: Fraud) -> None:
    other = sets["failing"].lightgbm.storage_uri
    deploy.deploy_detector(stage.api, MANIFESTS, other, stage.champion.fusion.storage_uri)
    stage.kserve.wait_ready(DETECTOR)
    with pytest.raises(NotServing, match="neither the champion nor the challenger"):
        fraud("start")


def test_shares_must_rise(fraud: Fraud) -> None:
    for shares in ("50,5", "5,5", "0,5", "5,100"):
        with pytest.raises(StepError, match="must rise"):
            fraud("run", "--shares", shares)
    with pytest.raises(StepError, match="write percents as 5,25,50"):
        fraud("run", "--shares", "few")


def test_no_cluster_is_said_in_a_line(tmp_path: Path) -> None:
    with pytest.raises(KServeRefused, match="set KUBECONFIG, or start a local one"):
        connect(tmp_path / "none")
