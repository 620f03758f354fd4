"""What a run says while MLflow is away is kept, and delivered later: all of it, once."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow import MlflowClient

from components.errors import MlflowUnreachable
from components.mlflow_client import MlflowException
from components.outbox import OUTBOX_VARIABLE, Outbox, outboxes
from components.outbox_delivery import EXPERIMENT, deliver, telling
from components.register_model.logic import MODELS
from pipelines.registry_export import read_registry
from pipelines.tracking import open_run, push_kept
from simulators.local_services import MlflowServer, free_port
from tests.conftest import ROOT
from tests.pipeline.model_sets import EVALUATION, make_set, request, write_evaluation

Cut = Callable[[Callable[[str, str], bool], BaseException], None]


def away() -> str:
    return f"http://127.0.0.1:{free_port()}"


def say(outbox: Outbox, root: Path, word: str, alias: str = "champion") -> None:
    """What the steps of a pipeline say."""
    outbox.keep("metrics", {"average_precision": 0.5, "not_a_number": float("nan")})
    outbox.keep("child", {"params.leaves": "31", "metrics.loss": 0.25, "tags.trial": "0"}, name="trial 0")
    outbox.keep("artifacts", name="evaluation", files={"evaluation.json": write_evaluation(root / "e.json")})
    folders = make_set(root / "made", word)
    outbox.keep("register", request(root, alias).values(), files={**folders, "evaluation.json": root / "e.json"})


def train(url: str, root: Path, word: str, alias: str = "champion") -> Path | None:
    """A run of the pipeline, but for the learning; returns where it is kept."""
    with open_run(url, word, {"team": "fraud"}, {"rounds": "20"}, root / "outbox") as run:
        os.environ[OUTBOX_VARIABLE] = str(root / "outbox")
        with telling(url, run.run_id) as outbox:
            say(outbox, root, word, alias)
    return run.kept


@pytest.fixture(autouse=True)
def _no_outbox_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(OUTBOX_VARIABLE, "")


def runs(url: str, word: str) -> list[str]:
    client = MlflowClient(url)
    experiment = client.get_experiment_by_name(EXPERIMENT)
    found = client.search_runs([experiment.experiment_id], f"attributes.run_name = '{word}'") if experiment else []
    return [run.info.run_id for run in found]


def check_told(url: str, word: str, root: Path) -> None:
    """Everything is there, each thing once."""
    client = MlflowClient(url)
    (run_id,) = runs(url, word)
    run = client.get_run(run_id)
    assert (run.info.status, run.data.params, run.data.tags["team"]) == ("FINISHED", {"rounds": "20"}, "fraud")
    assert run.data.metrics["average_precision"] == 0.5
    assert len(client.get_metric_history(run_id, "average_precision")) == 1
    children = client.search_runs([run.info.experiment_id], f"tags.`mlflow.parentRunId` = '{run_id}'")
    assert [(c.data.params, c.data.metrics["loss"], c.info.status) for c in children] == [
        ({"leaves": "31"}, 0.25, "FINISHED")
    ]
    path = client.download_artifacts(run_id, "evaluation/evaluation.json", str(root))
    assert json.loads(Path(path).read_text()) == EVALUATION
    assert [(m.name, m.aliases, len(m.versions)) for m in read_registry(url).models] == [
        (model, {"champion": 1}, 1) for model in MODELS
    ]
    assert {v.lineage.mlflow_run for v in read_registry(url).versions()} == {run_id}
    assert all((root / "bundles" / v.model / f"1-{v.sha12}").is_dir() for v in read_registry(url).versions())


def test_a_run_without_mlflow_goes_on_and_is_pushed_later(
    fresh_url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    kept = train(away(), tmp_path, "later")
    assert kept is not None
    assert "Training goes on" in caplog.text
    assert f"The run is kept in {kept}: push it with `fraud models push`" in caplog.text
    assert not (tmp_path / "bundles").exists()
    with pytest.raises(MlflowUnreachable):
        push_kept(away(), tmp_path / "outbox")
    pushed = push_kept(fresh_url, tmp_path / "outbox")
    assert [(run.key, run.run_id) for run in pushed] == [(kept.name, runs(fresh_url, "later")[0])]
    check_told(fresh_url, "later", tmp_path)
    assert push_kept(fresh_url, tmp_path / "outbox") == []
    check_told(fresh_url, "later", tmp_path)


def test_with_mlflow_up_a_run_leaves_nothing_in_the_outbox(fresh_url: str, tmp_path: Path) -> None:
    assert train(fresh_url, tmp_path, "now") is None
    check_told(fresh_url, "now", tmp_path)
    assert list((tmp_path / "outbox").iterdir()) == []


@pytest.mark.slow
def test_mlflow_that_goes_away_during_a_run_and_comes_back_has_all_of_it(tmp_path: Path) -> None:
    port = free_port()
    with MlflowServer(tmp_path / "mlflow", port) as server:
        with open_run(server.url, "broken", {"team": "fraud"}, {"rounds": "20"}, tmp_path / "outbox") as run:
            server.stop()
            os.environ[OUTBOX_VARIABLE] = str(tmp_path / "outbox")
            with telling(server.url, run.run_id) as outbox:
                say(outbox, tmp_path, "broken")
        assert run.kept is not None
    with MlflowServer(tmp_path / "mlflow", port) as server:
        assert [p.run_id for p in push_kept(server.url, tmp_path / "outbox")] == [run.run_id]
        check_told(server.url, "broken", tmp_path)


@pytest.mark.slow
def test_a_push_that_is_killed_over_and_over_is_finished_in_the_end(fresh_url: str, tmp_path: Path, cut: Cut) -> None:
    kept = train(away(), tmp_path, "killed")
    assert kept is not None
    left, sent = 0, 0

    def hit(_method: str, _path: str) -> bool:
        nonlocal sent
        sent += 1
        return sent == left

    cut(hit, KeyboardInterrupt())
    kills = 0
    while kept.exists():
        left, sent = left + 1, 0
        try:
            push_kept(fresh_url, tmp_path / "outbox")
        except KeyboardInterrupt:
            kills += 1
    assert kills > 15
    left = 0
    check_told(fresh_url, "killed", tmp_path)


KILLED = """
import os, sys, requests
from pathlib import Path
from pipelines.tracking import push_kept
send, url, root, path = requests.Session.send, sys.argv[1], Path(sys.argv[2]), sys.argv[3]
def sent(session, request, **options):
    answer = send(session, request, **options)
    if path in request.url and request.method == "POST":
        os._exit(9)
    return answer
requests.Session.send = sent
push_kept(url, root)
"""


@pytest.mark.slow
@pytest.mark.parametrize("path", ["runs/create", "model-versions/create", "registered-models/alias"])
def test_a_process_that_dies_without_a_word_loses_nothing(path: str, fresh_url: str, tmp_path: Path) -> None:
    word = path.replace("/", "-")
    assert train(away(), tmp_path, word)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", KILLED, fresh_url, str(tmp_path / "outbox"), path]
    assert subprocess.run(command, env=environment, check=False).returncode == 9
    (pushed,) = push_kept(fresh_url, tmp_path / "outbox")
    assert not pushed.refused
    check_told(fresh_url, word, tmp_path)


def test_two_pushes_at_once_deliver_once(fresh_url: str, tmp_path: Path) -> None:
    assert train(away(), tmp_path, "twice")
    threads = [threading.Thread(target=push_kept, args=(fresh_url, tmp_path / "outbox")) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    check_told(fresh_url, "twice", tmp_path)


def test_a_run_that_is_still_going_on_is_left_alone(fresh_url: str, tmp_path: Path) -> None:
    with open_run(away(), "alive", {}, {}, tmp_path / "outbox"):
        assert push_kept(fresh_url, tmp_path / "outbox") == []
    (pushed,) = push_kept(fresh_url, tmp_path / "outbox")
    assert MlflowClient(fresh_url).get_run(pushed.run_id).info.status == "FINISHED"


def test_a_run_whose_process_died_ends_as_killed(fresh_url: str, tmp_path: Path) -> None:
    with Outbox.new(tmp_path) as outbox:
        outbox.keep("run", {"team": "fraud"}, name="died")
    (pushed,) = push_kept(fresh_url, tmp_path)
    assert MlflowClient(fresh_url).get_run(pushed.run_id).info.status == "KILLED"
    # Died with MLflow up, when there was nothing left to say.
    with Outbox.new(tmp_path) as outbox:
        outbox.keep("run", {}, name="died")
        told = outbox.renamed(deliver(outbox, fresh_url))
    (pushed,) = push_kept(fresh_url, tmp_path)
    assert MlflowClient(fresh_url).get_run(told.folder.name).info.status == "KILLED"
    assert outboxes(tmp_path) == []


def test_runs_are_pushed_in_the_order_in_which_they_were_made(fresh_url: str, tmp_path: Path) -> None:
    for word in ("older", "newer"):
        assert train(away(), tmp_path, word)
    push_kept(fresh_url, tmp_path / "outbox")
    assert {m.name: m.aliases for m in read_registry(fresh_url).models} == {m: {"champion": 2} for m in MODELS}


def test_a_kept_run_does_not_take_the_alias_from_a_later_one(fresh_url: str, tmp_path: Path) -> None:
    assert train(away(), tmp_path / "here", "kept")
    assert train(fresh_url, tmp_path / "there", "since") is None
    assert push_kept(fresh_url, tmp_path / "here" / "outbox")
    assert {(m.name, len(m.versions), m.aliases["champion"]) for m in read_registry(fresh_url).models} == {
        (model, 2, 1) for model in MODELS
    }


def test_a_run_that_the_server_refuses_stays_and_does_not_hold_up_others(fresh_url: str, tmp_path: Path) -> None:
    with open_run(away(), "refused", {}, {}, tmp_path / "outbox") as run:
        run.outbox.keep("metrics", {"a name with % in it": 1.0})
    assert train(away(), tmp_path, "fine")
    refused, fine = push_kept(fresh_url, tmp_path / "outbox")
    assert "a name with % in it" in refused.refused
    assert fine.run_id
    assert [o.folder.name for o in outboxes(tmp_path / "outbox")] == [refused.key]


def test_a_record_that_was_spoilt_stays_and_does_not_hold_up_others(fresh_url: str, tmp_path: Path) -> None:
    spoilt, cut_short = train(away(), tmp_path, "spoilt"), train(away(), tmp_path / "2", "short")
    assert spoilt
    assert cut_short
    shutil.move(cut_short, tmp_path / "outbox")
    next(spoilt.glob("*-register/files/fraud-gnn/deep/weights.txt")).write_text("other")
    next((tmp_path / "outbox" / cut_short.name).glob("*-metrics/record.json")).write_text("{")
    assert train(away(), tmp_path / "3", "whole")
    shutil.move(next((tmp_path / "3" / "outbox").iterdir()), tmp_path / "outbox")
    first, second, third = push_kept(fresh_url, tmp_path / "outbox")
    assert "differs from its manifest" in first.refused
    assert "Record" in second.refused
    assert third.run_id
    assert [o.folder.name for o in outboxes(tmp_path / "outbox")] == [first.key, second.key]
    assert {len(m.versions) for m in read_registry(fresh_url).models} == {1}


def test_a_step_without_an_outbox_fails_when_mlflow_is_away() -> None:
    with pytest.raises(MlflowUnreachable), telling(away(), "0" * 32) as outbox:
        outbox.keep("metrics", {"a": 1.0})


def test_a_record_is_there_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outbox = Outbox.of_run(tmp_path, "0" * 32)
    with pytest.raises(FileNotFoundError):
        outbox.keep("artifacts", files={"a": Path(__file__), "b": tmp_path / "none"})
    assert outbox.waiting() == []
    outbox.keep("tags", {"a": "b"})
    assert [k.record.values for k in outbox.waiting()] == [{"a": "b"}]


def test_a_failed_run_is_kept_as_failed(fresh_url: str, tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), open_run(away(), "failed", {}, {}, tmp_path / "outbox"):
        raise ZeroDivisionError
    (pushed,) = push_kept(fresh_url, tmp_path / "outbox")
    assert MlflowClient(fresh_url).get_run(pushed.run_id).info.status == "FAILED"


def test_a_run_that_mlflow_will_not_open_is_not_begun(fresh_url: str, tmp_path: Path) -> None:
    with pytest.raises(MlflowException), open_run(fresh_url, "bad", {}, {"a % b": "1"}, tmp_path / "outbox"):
        pytest.fail("begun")
    assert outboxes(tmp_path / "outbox") == []
    (run_id,) = runs(fresh_url, "bad")
    assert MlflowClient(fresh_url).get_run(run_id).info.status == "FAILED"
