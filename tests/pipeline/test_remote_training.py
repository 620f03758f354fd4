"""`fraud train --host`: KFP's own client and a real MLflow, against a Kubeflow Pipelines API that runs nothing."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from mlflow import MlflowClient

from components.register_model.logic import MODELS
from components.train_gnn.settings import GnnSettings
from feature_repo.datasets import Dataset
from pipelines import remote
from pipelines.errors import KfpError, KfpUnavailable, RunGoesOn, StepError
from pipelines.kfp_server import KfpServer
from pipelines.remote import Cluster, Submission
from pipelines.settings import KfpSettings, TrainingRun
from pipelines.training import STEPS
from simulators.local_services import MlflowServer, free_port
from tests.conftest import ROOT
from tests.kfp_server_fake import RUN, FakeKfp, Scene, Script
from tests.processes import wait_until

HALFWAY = dict.fromkeys(STEPS[:3], "SUCCEEDED") | {STEPS[3]: "RUNNING"}
ALL = dict.fromkeys(STEPS, "SUCCEEDED")
GATE_FAILS = dict.fromkeys(STEPS[:6], "SUCCEEDED") | {"gate": "FAILED"}
SUCCESS = (Scene({}, "PENDING"), Scene(HALFWAY), Scene(ALL, "SUCCEEDED"))
FAILURE = (Scene(HALFWAY), Scene(GATE_FAILS, "FAILED", "Error (exit code 1)"))


@pytest.fixture(scope="module")
def mlflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A registry of this module's own, with a champion that a cluster registered."""
    with MlflowServer(tmp_path_factory.mktemp("mlflow")) as server:
        client = MlflowClient(server.url)
        for model in MODELS:
            client.create_registered_model(model)
            tags = {"storage_uri": f"pvc://fraud-bundles/{model}/1-abc", "sha12": "abc"}
            version = client.create_model_version(model, "s3://bucket/model", tags=tags).version
            client.set_registered_model_alias(model, "champion", version)
        yield server.url


@pytest.fixture
def kfp() -> Iterator[FakeKfp]:
    with FakeKfp(Script()) as server:
        yield server


@pytest.fixture
def run(dataset: Dataset, quick_policy: Path, mlflow: str, tmp_path: Path) -> TrainingRun:
    return TrainingRun(
        dataset=dataset.path,
        work=tmp_path / "runs",
        tracking_uri=mlflow,
        bundle_root=tmp_path / "bundles",
        policy=quick_policy,
        alias="champion",
        gnn={"epochs": 1},
    )


def cluster(url: str, mlflow: str, **others: Any) -> Cluster:
    settings = KfpSettings(**{"poll_s": 0.01, "patience_s": 0.2, "connect_timeout_s": 2, "read_timeout_s": 5, **others})
    return Cluster(KfpServer(url, settings), settings, mlflow)


def status(mlflow: str, run_id: str) -> str:
    return str(MlflowClient(mlflow).get_run(run_id).info.status)


def newest_status(mlflow: str) -> str:
    client = MlflowClient(mlflow)
    experiment = client.get_experiment_by_name("fraud-training")
    return str(client.search_runs([experiment.experiment_id], max_results=1)[0].info.status)


def submit(kfp: FakeKfp, run: TrainingRun, mlflow: str, how: Submission = Submission(), **others: Any) -> str:  # noqa: B008
    return remote.submit(run, cluster(kfp.url, mlflow, **others), how, lambda _: None)


def test_a_run_is_submitted_with_what_the_pods_see(
    kfp: FakeKfp, run: TrainingRun, mlflow: str, dataset: Dataset
) -> None:
    said: list[str] = []
    where = cluster(kfp.url, mlflow, token="s3cret", tracking_uri="http://mlflow.fraud:5000", namespace="fraud")
    challenger = run.model_copy(update={"alias": "challenger"})
    assert remote.submit(challenger, where, Submission("weekly", "tuesday"), said.append) == RUN

    assert [(r.method, r.path) for r in kfp.requests] == [
        ("GET", "/experiments"),
        ("POST", "/experiments"),
        ("POST", "/runs"),
    ]
    assert {r.headers["authorization"] for r in kfp.requests} == {"Bearer s3cret"}
    assert kfp.requests[0].query["namespace"] == ["fraud"]
    assert json.loads(kfp.requests[0].query["filter"][0])["predicates"][0]["stringValue"] == "weekly"
    assert kfp.requests[1].body == {"display_name": "weekly", "namespace": "fraud"}
    body = kfp.submitted
    assert (body["experiment_id"], body["display_name"]) == ("e-1", "tuesday")
    given = body["runtime_config"]["parameters"]
    assert given["dataset_path"] == f"/mnt/datasets/{dataset.sha12}"
    assert (given["bundle_root"], given["bundle_claim"]) == ("/mnt/bundles", "fraud-bundles")
    assert given["tracking_uri"] == "http://mlflow.fraud:5000"
    assert given["champion_gnn"] == "/mnt/bundles/fraud-gnn/1-abc"
    assert given["policy"] == run.policy.read_text()
    assert given["gnn_settings"] == GnnSettings(epochs=1).model_dump()
    assert set(body["pipeline_spec"]) == {"pipeline_spec", "platform_spec"}

    opened = MlflowClient(mlflow).get_run(given["run_id"])
    assert opened.info.status == "RUNNING"
    assert opened.data.tags["kfp_run"] == f"{kfp.url}/#/runs/details/{RUN}"
    assert said == [f"submitted: {kfp.url}/#/runs/details/{RUN}"]
    assert "s3cret" not in repr(where) + json.dumps(opened.data.tags | opened.data.params) + json.dumps(body)


def test_what_is_submitted_is_the_compiled_pipeline(kfp: FakeKfp, run: TrainingRun, mlflow: str) -> None:
    golden = ROOT / "tests" / "pipeline" / "golden" / "training_pipeline.yaml"
    graph, platform = yaml.safe_load_all(golden.read_text())
    submit(kfp, run, mlflow)
    assert kfp.submitted["pipeline_spec"] == {"pipeline_spec": graph, "platform_spec": platform}


def test_without_the_cache_no_step_may_reuse_an_answer(kfp: FakeKfp, run: TrainingRun, mlflow: str) -> None:
    submit(kfp, run, mlflow, Submission(cache=False))
    tasks = kfp.submitted["pipeline_spec"]["pipeline_spec"]["root"]["dag"]["tasks"]
    assert {name for name, task in tasks.items() if task["cachingOptions"]} == set()
    assert "experiment_id" in kfp.submitted


def test_a_token_file_is_read_again_for_each_request(
    kfp: FakeKfp, run: TrainingRun, mlflow: str, tmp_path: Path
) -> None:
    file = tmp_path / "token"
    file.write_text("first\n")
    where = cluster(kfp.url, mlflow, token_file=file)
    remote.submit(run, where, Submission(), lambda _: file.write_text("second\n"))
    where.server.run(RUN)
    assert [r.headers["authorization"] for r in kfp.requests][-2:] == ["Bearer first", "Bearer second"]
    file.unlink()
    with pytest.raises(KfpError, match=r"FRAUD_KFP_TOKEN_FILE .* cannot be read"):
        where.server.run(RUN)


def test_a_run_is_watched_step_by_step_to_its_registered_versions(kfp: FakeKfp, run: TrainingRun, mlflow: str) -> None:
    kfp.script.scenes = SUCCESS
    moved: list[tuple[int, int]] = []
    where = cluster(kfp.url, mlflow)
    result = remote.follow(where, submit(kfp, run, mlflow), lambda *step: moved.append(step))
    assert moved == [(0, 8), (3, 8), (8, 8)]
    assert [(v.name, v.version) for v in result.versions] == [(m, 1) for m in MODELS]
    assert (result.kfp_run_id, result.alias) == (RUN, "champion")
    assert status(mlflow, result.run_id) == "FINISHED"


def test_a_step_whose_answer_came_from_the_cache_counts_as_done(kfp: FakeKfp, run: TrainingRun, mlflow: str) -> None:
    kfp.script.scenes = (Scene({**ALL, "train-gnn": "SKIPPED"}, "SUCCEEDED"),)
    moved: list[tuple[int, int]] = []
    remote.follow(cluster(kfp.url, mlflow), submit(kfp, run, mlflow), lambda *step: moved.append(step))
    assert moved == [(8, 8)]


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        (
            GATE_FAILS,
            r"step 'gate' failed: Error \(exit code 1\), its log is that of pod gate-2 \(http://.*/runs/details/",
        ),
        ({"train-gnn-driver": "FAILED"}, r"step 'train-gnn' failed: Error \(exit code 1\)"),
        ({}, r"the run failed: Kubeflow Pipelines gives no reason"),
    ],
    ids=["a step", "a driver", "nothing known"],
)
def test_a_failed_step_is_named_with_its_reason(
    kfp: FakeKfp, run: TrainingRun, mlflow: str, steps: dict[str, str], expected: str
) -> None:
    kfp.script.scenes = (Scene(HALFWAY), Scene(steps, "FAILED", "Error (exit code 1)"))
    with pytest.raises(StepError, match=expected):
        remote.follow(cluster(kfp.url, mlflow), submit(kfp, run, mlflow))
    assert status(mlflow, kfp.script.parameters["run_id"]) == "FAILED"


def test_a_cancelled_run_is_said_to_be_cancelled(kfp: FakeKfp, run: TrainingRun, mlflow: str) -> None:
    kfp.script.scenes = (Scene(HALFWAY, "CANCELED"),)
    with pytest.raises(StepError, match="the run was cancelled"):
        remote.follow(cluster(kfp.url, mlflow), submit(kfp, run, mlflow))
    assert status(mlflow, kfp.script.parameters["run_id"]) == "KILLED"


def test_a_server_that_comes_back_is_watched_further(kfp: FakeKfp, run: TrainingRun, mlflow: str) -> None:
    kfp_run = submit(kfp, run, mlflow)
    kfp.script = replace(kfp.script, scenes=SUCCESS, dies_after=1, returns_after=3)
    result = remote.follow(cluster(kfp.url, mlflow, patience_s=60), kfp_run)
    assert kfp.cut > 3
    assert status(mlflow, result.run_id) == "FINISHED"


def test_a_server_that_stays_away_ends_the_watch_and_not_the_run(kfp: FakeKfp, run: TrainingRun, mlflow: str) -> None:
    kfp_run = submit(kfp, run, mlflow)
    kfp.script = replace(kfp.script, scenes=(Scene(HALFWAY),), dies_after=1)
    with pytest.raises(RunGoesOn, match=rf"does not answer.*goes on.*`fraud train --host {kfp.url} --follow {RUN}`"):
        remote.follow(cluster(kfp.url, mlflow), kfp_run)
    assert status(mlflow, kfp.script.parameters["run_id"]) == "RUNNING"


def test_a_run_that_takes_too_long_is_left_alone(kfp: FakeKfp, run: TrainingRun, mlflow: str) -> None:
    kfp.script.scenes = (Scene(HALFWAY),)
    with pytest.raises(RunGoesOn, match="not at its end after 0 s"):
        remote.follow(cluster(kfp.url, mlflow, wait_s=0.05), submit(kfp, run, mlflow))


def test_an_interrupted_watch_can_be_taken_up_again(kfp: FakeKfp, run: TrainingRun, mlflow: str) -> None:
    kfp.script.scenes = SUCCESS
    kfp_run = submit(kfp, run, mlflow)

    def interrupt(*_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(RunGoesOn, match=rf"no longer watched; the run goes on .* --follow {RUN}"):
        remote.follow(cluster(kfp.url, mlflow), kfp_run, interrupt)
    assert status(mlflow, kfp.script.parameters["run_id"]) == "RUNNING"
    assert not [r for r in kfp.requests if r.path.endswith(":terminate")]
    result = remote.follow(cluster(kfp.url, mlflow), kfp_run)
    assert status(mlflow, result.run_id) == "FINISHED"


LOGIN = "<html>Log in to Kubeflow</html>"
REFUSALS: dict[str, tuple[tuple[int, dict[str, str], str], str]] = {
    "no valid token": ((401, {}, "Unauthorized"), r"wants a login \(401\): give a valid token in FRAUD_KFP_TOKEN"),
    "not allowed": ((403, {}, "RBAC: access denied"), r"wants a login \(403\)"),
    "a redirect to a login": ((302, {"location": "/dex/auth"}, ""), r"wants a login \(302\)"),
    "a login page": ((200, {"content-type": "text/html"}, LOGIN), "is it a login page?"),
    "a KFP error": (
        (400, {}, '{"code": 3, "message": "Invalid input\\nerror"}'),
        r"refuses \(400\): Invalid input error",
    ),
    "no KFP": ((404, {}, "404 page not found"), r"refuses \(404\): Not Found"),
    "a server in trouble": ((503, {}, "no healthy upstream"), r"fails \(503\): Service Unavailable"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_a_refusal_is_one_clear_line_and_leaves_no_open_run(
    case: str, kfp: FakeKfp, run: TrainingRun, mlflow: str
) -> None:
    kfp.script.answer, expected = REFUSALS[case]
    with pytest.raises(KfpError, match=expected) as caught:
        submit(kfp, run, mlflow)
    assert "\n" not in str(caught.value)
    assert [r.path for r in kfp.requests if r.path != "/experiments"] == []
    assert newest_status(mlflow) == "FAILED"


def test_a_host_that_refuses_or_swallows_connections_is_named(run: TrainingRun, mlflow: str) -> None:
    nobody = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(KfpUnavailable, match=f"Kubeflow Pipelines at {nobody} does not answer: .*refused"):
        remote.submit(run, cluster(nobody, mlflow), Submission(), lambda _: None)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(KfpUnavailable, match=r"does not answer: .*timed out"):
            remote.submit(run, cluster(url, mlflow, read_timeout_s=0.2), Submission(), lambda _: None)
    assert newest_status(mlflow) == "FAILED"


def test_what_cannot_be_followed_is_named(kfp: FakeKfp, mlflow: str) -> None:
    with pytest.raises(KfpError, match=r"refuses \(404\): other not found"):
        remote.follow(cluster(kfp.url, mlflow), "other")
    kfp.script.parameters = {"rounds": 3}
    with pytest.raises(KfpError, match="it is no run of the training pipeline"):
        remote.follow(cluster(kfp.url, mlflow), RUN)


def test_a_champion_of_a_laptop_is_refused_before_anything_is_opened(
    kfp: FakeKfp, run: TrainingRun, mlflow: str
) -> None:
    client = MlflowClient(mlflow)
    tag = (MODELS[0], client.get_model_version_by_alias(MODELS[0], "champion").version, "storage_uri")
    client.set_model_version_tag(*tag, f"file:///home/me/bundles/{MODELS[0]}/1-abc")
    challenger = run.model_copy(update={"alias": "challenger"})
    with pytest.raises(KfpError, match=r"the champion's bundle is /home/me/.*set FRAUD_KFP_BUNDLE_ROOT"):
        submit(kfp, challenger, mlflow)
    assert kfp.requests == []
    client.set_model_version_tag(*tag, f"pvc://fraud-bundles/{MODELS[0]}/1-abc")


def test_an_address_needs_a_scheme(mlflow: str) -> None:
    with pytest.raises(KfpError, match=r"'kubeflow\.example' is not an address"):
        cluster("kubeflow.example", mlflow)


@pytest.fixture
def fraud(dataset: Dataset, mlflow: str, tmp_path: Path) -> Callable[..., subprocess.Popen[str]]:
    """Starts the command in a home that has the dataset."""
    datasets = tmp_path / "home" / "datasets"
    datasets.mkdir(parents=True)
    (datasets / dataset.path.name).symlink_to(dataset.path)

    def start(*arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "pipelines.cli", "train", "--home", str(tmp_path / "home"), *arguments]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "MLFLOW_TRACKING_URI": mlflow, "FRAUD_KFP_POLL_S": "0.1"}
        return subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
        )

    return start


@pytest.mark.slow
def test_the_command_prints_the_page_and_ends_with_the_failed_step(
    kfp: FakeKfp, fraud: Callable[..., subprocess.Popen[str]]
) -> None:
    kfp.script.scenes = FAILURE
    out, err = (process := fraud("--host", kfp.url)).communicate(timeout=120)
    assert process.returncode == 1
    assert f"submitted: {kfp.url}/#/runs/details/{RUN}" in out
    assert err.startswith("fraud: step 'gate' failed: Error (exit code 1)")
    assert len(err.strip().splitlines()) == 1, err

    kfp.script.scenes, kfp.looks = SUCCESS, 0
    out, err = (process := fraud("--host", kfp.url, "--follow", RUN)).communicate(timeout=120)
    assert process.returncode == 0, err
    assert f"training pipeline: run {RUN}: 8 in" in out
    assert "registered as champion: fraud-lightgbm 1, fraud-gnn 1, fraud-fusion 1" in out


@pytest.mark.slow
def test_ctrl_c_asks_nothing_and_says_how_to_follow(
    kfp: FakeKfp, mlflow: str, fraud: Callable[..., subprocess.Popen[str]]
) -> None:
    kfp.script.scenes = (Scene(HALFWAY),)
    process = fraud("--host", kfp.url)
    wait_until(lambda: kfp.looks > 1)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert f"`fraud train --host {kfp.url} --follow {RUN}`" in err
    assert len(err.strip().splitlines()) == 1, err
    assert status(mlflow, kfp.script.parameters["run_id"]) == "RUNNING"
