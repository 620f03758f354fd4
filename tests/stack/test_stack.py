"""The running services, driven as their callers drive them. Tests run in order: the last ones take parts away."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import orjson
import pandas as pd
import pyarrow.parquet as pq
import pytest
import redis
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest, RESTConfig

from components import kserve_api
from components.train_gnn.entity_graph import EntityLog
from components.train_gnn.replay import score_log
from feature_repo.datasets import snapshot
from feature_repo.event_batch import EventBatch
from feature_repo.event_log import read_log
from feature_repo.event_schemas import SCORED_EVENT_TYPES
from feature_repo.feature_names import MODEL_FEATURES
from feature_repo.historical import training_frame
from feature_repo.ingestion import with_pseudonyms
from inference_services.calibration import FULL, read_calibrations, sigmoid
from inference_services.decision_log.files import files
from inference_services.gnn_predictor.network import load_network
from inference_services.transformer.decision_record import DecisionRecord
from inference_services.transformer.decisions import STREAM
from pipelines import deploy, replay
from pipelines.decision_replay import Versions
from pipelines.decision_replay import replay as replay_decision
from pipelines.errors import StepError
from pipelines.local_stack import Stack
from pipelines.steps import registered
from pipelines.v2_events import outputs, request_body
from tests.conftest import ROOT, Company
from tests.processes import processes_with

PATH = "/v2/models/fraud-detector/infer"
OUTPUTS = {"fraud_probability", "decision", "lightgbm_probability", "gnn_probability", "reasons", "degraded"}


@pytest.fixture(scope="module")
def events(company: Company) -> EventBatch:
    """The scored events of the live day, under pseudonyms."""
    table = replay.read_day(company.workspace.world / "events", company.workspace.live_day())
    batch = EventBatch.from_arrow(table)
    scored = np.flatnonzero(np.isin(batch["event_type"].astype(str), SCORED_EVENT_TYPES))
    return with_pseudonyms(batch.take(scored), company.workspace.pseudonymiser())


def body(events: EventBatch, n: int = 1) -> dict[str, Any]:
    return request_body(events.take(np.arange(n)), "a-request")


def post(stack: Stack, content: Any) -> httpx.Response:
    data = content if isinstance(content, bytes) else orjson.dumps(content)
    return httpx.post(stack.detector_url + PATH, content=data, headers={"content-type": "application/json"}, timeout=20)


def decided(stack: Stack, events: EventBatch, n: int = 1) -> dict[str, list[Any]]:
    answer = post(stack, body(events, n))
    assert answer.status_code == 200, answer.text
    assert answer.json()["id"] == "a-request"
    return outputs(answer.json())


def last_decision(client: Any) -> str:
    """Id of the last entry of the decision stream."""
    newest = client.xrevrange(STREAM, count=1)
    return newest[0][0].decode() if newest else "0-0"


def decisions_since(client: Any, entry: str) -> list[DecisionRecord]:
    """The decisions behind an entry of the stream, once it has rested: they follow the answers."""
    found, before = [], [None]
    while found != before:
        time.sleep(0.5)
        before, found = found, client.xrange(STREAM, min=f"({entry}")
    return [DecisionRecord.from_json(fields[b"decision"]) for _, fields in found]


def kserve_request(events: EventBatch, n: int) -> InferRequest:
    inputs = []
    for tensor in body(events, n)["inputs"]:
        item = InferInput(tensor["name"], tensor["shape"], tensor["datatype"])
        dtype = {"BYTES": object, "INT64": np.int64, "FP64": np.float64, "BOOL": np.bool_}[tensor["datatype"]]
        item.set_data_from_numpy(np.array(tensor["data"], dtype), binary_data=False)
        inputs.append(item)
    return InferRequest("fraud-detector", inputs, request_id="a-request")


def test_a_decision_has_every_output(stack: Stack, events: EventBatch) -> None:
    found = decided(stack, events, 3)
    assert set(found) == OUTPUTS
    assert all(len(column) == 3 for column in found.values())
    assert set(found["decision"]) <= {"allow", "review", "block"}
    assert found["degraded"] == ["", "", ""]
    assert all(0 <= p <= 1 for p in found["fraud_probability"] + found["gnn_probability"])


def test_batches_and_single_events_agree(stack: Stack, events: EventBatch) -> None:
    together = decided(stack, events, 20)
    for i in range(0, 20, 5):
        answer = post(stack, request_body(events.take(np.array([i])), "one"))
        alone = outputs(answer.json())
        assert alone["fraud_probability"][0] == pytest.approx(together["fraud_probability"][i], abs=1e-6)


def test_kserves_own_clients(stack: Stack, events: EventBatch) -> None:
    expected = decided(stack, events, 4)["fraud_probability"]
    status = kserve_api.get(stack.kserve.api(), kserve_api.DETECTOR)["status"]
    grpc = status["components"]["transformer"]["grpcUrl"].removeprefix("grpc://")

    async def ask() -> tuple[Any, Any]:
        rest = InferenceRESTClient(RESTConfig(protocol="v2", retries=0))
        over_rest = await rest.infer(stack.detector_url, kserve_request(events, 4), model_name="fraud-detector")
        assert await rest.is_server_ready(stack.detector_url)
        await rest.close()
        channel = InferenceGRPCClient(grpc, retries=0)
        over_grpc = await channel.infer(kserve_request(events, 4))
        await channel.close()
        return over_rest, over_grpc

    for answer in asyncio.run(ask()):
        named = {o.name: o.as_numpy() for o in answer.outputs}
        np.testing.assert_allclose(named["fraud_probability"], expected, atol=1e-6)


def test_kubectl_shows_the_services(stack: Stack, company: Company) -> None:
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("no kubectl on PATH: the services were not looked at with it")
    command = [kubectl, "--kubeconfig", company.workspace.kubeconfig, "get", "isvc", "-o", "json"]
    shown = json.loads(subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout)
    ready = {
        isvc["metadata"]["name"]: next(c["status"] for c in isvc["status"]["conditions"] if c["type"] == "Ready")
        for isvc in shown["items"]
    }
    assert ready == dict.fromkeys((kserve_api.DETECTOR, kserve_api.DRIFT, kserve_api.GNN), "True")


def test_tritonclient(stack: Stack, events: EventBatch) -> None:
    """In a process of its own: tritonclient and kserve register the same protobuf names."""
    script = f"""
import json, sys
import numpy as np, tritonclient.http as triton
body = json.load(sys.stdin)
client = triton.InferenceServerClient({stack.detector_url.removeprefix("http://")!r})
kinds = {{"BYTES": object, "INT64": np.int64, "FP64": np.float64, "BOOL": np.bool_}}
inputs = []
for t in body["inputs"]:
    item = triton.InferInput(t["name"], t["shape"], t["datatype"])
    item.set_data_from_numpy(np.array(t["data"], kinds[t["datatype"]]), binary_data=True)
    inputs.append(item)
wanted = [triton.InferRequestedOutput("fraud_probability", binary_data=True)]
answer = client.infer("fraud-detector", inputs, outputs=wanted, request_id="triton")
print(json.dumps([client.is_server_ready(), answer.as_numpy("fraud_probability").tolist()]))
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script],
        input=json.dumps(body(events, 4)),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    ready, probabilities = json.loads(done.stdout)
    assert ready
    np.testing.assert_allclose(probabilities, decided(stack, events, 4)["fraud_probability"], atol=1e-6)


def change(request: dict[str, Any], name: str, **values: Any) -> dict[str, Any]:
    for tensor in request["inputs"]:
        if tensor["name"] == name:
            tensor.update(values)
    return request


def without(request: dict[str, Any], name: str) -> dict[str, Any]:
    return {**request, "inputs": [t for t in request["inputs"] if t["name"] != name]}


BAD = {
    "unknown event type": (lambda r: change(r, "event_type", data=["teleported", "teleported"]), "event_type"),
    "missing tensor": (lambda r: without(r, "rider_id"), "rider_id"),
    "wrong datatype": (lambda r: change(r, "event_timestamp", datatype="FP64", data=[1.0, 2.0]), "event_timestamp"),
    "unequal lengths": (lambda r: change(r, "city", shape=[1], data=["tehran"]), "city"),
    "shape against data": (lambda r: change(r, "city", data=["tehran"]), "city"),
    "raw id": (lambda r: change(r, "rider_id", data=["rider-1", "rider-2"]), "rider_id"),
    "unknown tensor": (lambda r: {**r, "inputs": [*r["inputs"], {**r["inputs"][0], "name": "iban"}]}, "iban"),
    "empty batch": (lambda r: {**r, "inputs": [{**t, "shape": [0], "data": []} for t in r["inputs"]]}, "event_id"),
    "too many": (
        lambda r: {**r, "inputs": [{**t, "shape": [1025], "data": [t["data"][0]] * 1025} for t in r["inputs"]]},
        "1024",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_a_400_that_names_the_field(stack: Stack, events: EventBatch, case: str) -> None:
    spoil, named = BAD[case]
    answer = post(stack, spoil(body(events, 2)))
    assert answer.status_code == 400, answer.text
    assert named in answer.json()["error"]
    assert decided(stack, events)["degraded"] == [""]


def test_not_json_is_a_client_error(stack: Stack, events: EventBatch) -> None:
    assert post(stack, b"{not json").status_code in {400, 422}
    assert post(stack, {"inputs": "none"}).status_code in {400, 422}
    assert decided(stack, events)["degraded"] == [""]


@pytest.fixture(scope="module")
def replayed(stack: Stack, company: Company) -> pd.DataFrame:
    """The decisions of the live day's first events, as `fraud replay` sends them, with what they saw."""
    with redis.Redis.from_url(stack.redis_url) as client:
        before = last_decision(client)
        table = replay.read_day(company.workspace.world / "events", company.workspace.live_day(), 250)
        pseudonymise = company.workspace.pseudonymiser()
        done = asyncio.run(replay.replay(table, stack.detector_url, stack.redis_url, pseudonymise))
        records = decisions_since(client, before)
    assert done.refused == 0
    assert len(done.decisions) > 150
    assert [r.event_id for r in records] == done.decisions["event_id"].tolist()
    columns = ("event_id", "gnn_probability")
    return pd.DataFrame([{**{c: getattr(r, c) for c in columns}, "features": r.features.by_name()} for r in records])


def test_a_day_is_replayed_once(stack: Stack, replayed: pd.DataFrame, company: Company) -> None:
    table = replay.read_day(company.workspace.world / "events", company.workspace.live_day(), 250)
    assert len(replayed) > 0
    with pytest.raises(StepError, match="were already published"):
        asyncio.run(replay.replay(table, stack.detector_url, stack.redis_url, company.workspace.pseudonymiser()))


@pytest.fixture(scope="module")
def afterwards(replayed: pd.DataFrame, company: Company) -> Any:
    """A dataset that has the replayed events, once the worker has written them to the log."""
    day = company.workspace.live_day()
    deadline = time.monotonic() + 30
    while set(replayed["event_id"]) - set(read_log(company.workspace.event_log).column("event_id").to_pylist()):
        assert time.monotonic() < deadline, "the worker did not append the event log"
        time.sleep(0.5)
    workspace = company.workspace
    return snapshot(workspace.event_log, workspace.label_log, workspace.root / "afterwards", day + timedelta(days=1))


def test_what_serving_saw_is_what_training_joins(replayed: pd.DataFrame, afterwards: Any, tmp_path: Path) -> None:
    frame = training_frame(afterwards.path, tmp_path).set_index("event_id").loc[replayed["event_id"]]
    for name in MODEL_FEATURES:
        online = replayed["features"].map(lambda f, n=name: f[n]).to_numpy()
        if name in {"event_type", "city"}:
            assert online.tolist() == frame[name].tolist()
        else:
            np.testing.assert_allclose(
                online.astype(float), frame[name].to_numpy(float), rtol=0, atol=1e-9, err_msg=name
            )


def test_the_graph_network_scores_online_as_offline(
    replayed: pd.DataFrame, afterwards: Any, company: Company, tmp_path: Path
) -> None:
    gnn = registered(company.mlflow_url, "champion").gnn
    folder = company.workspace.bundles / "fraud-gnn" / f"{gnn.version}-{gnn.sha12}"
    day = (company.workspace.live_day() - pd.Timestamp("1970-01-01").date()).days
    frame = training_frame(afterwards.path, tmp_path)
    log = EntityLog.read(afterwards.event_table(), afterwards.label_table(), frame)
    raw = score_log(load_network(folder), log, [day])
    calibration = read_calibrations(json.loads((folder / "calibration.json").read_text()), (FULL,))[FULL]
    offline = pd.Series(sigmoid(calibration.log_odds(raw.to_numpy())), index=raw.index)
    np.testing.assert_allclose(replayed["gnn_probability"], offline[replayed["event_id"]], rtol=0, atol=1e-5)


def test_drift_is_judged_on_the_replayed_events(stack: Stack, replayed: pd.DataFrame) -> None:
    deadline = time.monotonic() + 30
    while stack.drift().get("fraud_drift_windows_total", 0) < 1 and time.monotonic() < deadline:
        time.sleep(0.5)
    found = stack.drift()
    assert found["fraud_drift_windows_total"] >= 1
    assert found["fraud_drift_detected"] in {0.0, 1.0}
    assert sum(name.startswith("fraud_drift_p_value{") for name in found) > 50


def test_a_canary_takes_its_share_and_answers_with_its_own_version(
    stack: Stack, events: EventBatch, company: Company
) -> None:
    candidate = registered(company.mlflow_url, "challenger")
    champion = registered(company.mlflow_url, "champion")
    stack.canary(candidate.lightgbm, candidate.fusion, 10)
    traffic = {t["revisionName"]: t["percent"] for t in stack.predictor_traffic()}
    assert sorted(traffic.values()) == [10, 90]
    before = stack.kserve.requests()
    with redis.Redis.from_url(stack.redis_url) as client:
        last = last_decision(client)
        for _ in range(100):
            decided(stack, events)
        records = decisions_since(client, last)
    after = stack.kserve.requests()
    new = next(name for name, percent in traffic.items() if percent == 10)
    total = sum(after[n] - before.get(n, 0) for n in traffic)
    assert (after[new] - before.get(new, 0)) / total == pytest.approx(0.1, abs=0.03)
    versions = pd.Series([str(r.lightgbm_version).split("-")[1] for r in records]).value_counts()
    assert set(versions.index) == {candidate.lightgbm.sha12, champion.lightgbm.sha12}
    assert all(r.degraded == "" for r in records)


def test_fraud_score_prints_a_decision(stack: Stack, company: Company, tmp_path: Path) -> None:
    table = replay.read_day(company.workspace.world / "events", company.workspace.live_day(), 1)
    event = tmp_path / "event.json"
    event.write_bytes(orjson.dumps(EventBatch.from_arrow(table).row(0)))
    company.workspace.write_addresses({"fraud-detector": stack.detector_url})
    command = [sys.executable, "-m", "pipelines.cli", "score", str(event), "--home", str(company.workspace.root)]
    raw = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=ROOT)
    assert raw.returncode == 1
    assert "'rider_id' is not a pseudonym" in raw.stderr
    done = subprocess.run([*command, "--raw"], capture_output=True, text=True, timeout=60, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)[0]["decision"] in {"allow", "review", "block"}


def test_without_lightgbm_the_graph_model_decides(stack: Stack, events: EventBatch) -> None:
    predictors = [pid for pid in processes_with("inference_services.lightgbm_predictor") if is_ours(pid)]
    for pid in predictors:
        os.kill(pid, signal.SIGSTOP)
    try:
        found = wait_for_degraded(stack, events, "lightgbm")
        decided(stack, events, 20)
    finally:
        for pid in predictors:
            os.kill(pid, signal.SIGCONT)
    assert found["lightgbm_probability"] == [-1.0]
    assert 0 <= found["gnn_probability"][0] <= 1
    assert wait_for_degraded(stack, events, "")["lightgbm_probability"][0] >= 0


def test_without_the_graph_model_lightgbm_decides(stack: Stack, events: EventBatch) -> None:
    api = stack.kserve.api()
    api.delete_namespaced_custom_object(
        kserve_api.GROUP, kserve_api.VERSION, "fraud", kserve_api.PLURAL, kserve_api.GNN
    )
    found = wait_for_degraded(stack, events, "gnn")
    assert found["gnn_probability"] == [-1.0]
    assert 0 <= found["lightgbm_probability"][0] <= 1


def test_without_the_store_request_features_decide(stack: Stack, events: EventBatch) -> None:
    with redis.Redis.from_url(stack.redis_url) as client:
        client.execute_command("CLIENT", "PAUSE", "20000")
    found = wait_for_degraded(stack, events, "store,gnn")
    assert 0 <= found["fraud_probability"][0] <= 1
    assert found["decision"][0] in {"allow", "review", "block"}


def is_ours(pid: int) -> bool:
    """Whether this process started another one, itself or through one that it started."""
    while pid > 1:
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        if pid == os.getpid():
            return True
    return False


def logged(stack: Stack, log: Path) -> list[DecisionRecord]:
    """All decisions of the log, once it has what is in the stream."""
    deadline = time.monotonic() + 60
    with redis.Redis.from_url(stack.redis_url) as client:
        while True:
            waiting = {fields[b"decision"] for _, fields in client.xrange(STREAM)}
            rows = [pq.ParquetFile(file).read(["record"]).column("record").to_pylist() for file in files(log)]
            found = [content for of_file in rows for content in of_file]
            if waiting <= set(found):
                return [DecisionRecord.from_json(content) for content in found]
            assert time.monotonic() < deadline, "the sink did not write the log"
            time.sleep(0.5)


DEGRADED = {"", "lightgbm", "gnn", "store,gnn"}


def test_every_logged_decision_is_made_again_to_the_last_bit(
    stack: Stack, events: EventBatch, company: Company
) -> None:
    """Last of the tests with the stack: of single events and batches, of both versions, and of each degraded mode."""
    decided(stack, events, 60)
    versions = Versions(company.workspace.bundles, ROOT / "manifests/base/policy/rules.yaml")
    deadline = time.monotonic() + 60
    # Those made while Redis was away come from the spool, once it is back.
    records = logged(stack, company.workspace.decision_log)
    while DEGRADED - {record.degraded for record in records}:
        assert time.monotonic() < deadline, "a degraded decision is missing from the log"
        time.sleep(0.5)
        records = logged(stack, company.workspace.decision_log)
    replays = {record.decision_id: replay_decision(record, versions) for record in records}
    assert [r for r in replays.values() if not r.same] == []
    assert len(replays) > 350
    assert len({r.lightgbm_version for r in records}) == 3
    assert len({r.fusion for r in records}) == 2
    assert sum(one.name == "gnn_raw_score" for r in replays.values() for one in r.compared) > 250


def wait_for_degraded(stack: Stack, events: EventBatch, what: str) -> dict[str, list[Any]]:
    deadline = time.monotonic() + 15
    while True:
        found = decided(stack, events)
        if found["degraded"] == [what] or time.monotonic() > deadline:
            assert found["degraded"] == [what]
            return found


def test_the_policy_of_the_manifests_is_the_latency_budget() -> None:
    import yaml

    policy = yaml.safe_load((ROOT / "manifests/base/policy/threshold_settings.yaml").read_text())
    env = deploy.manifest(ROOT / "manifests/base", kserve_api.DETECTOR)["spec"]["transformer"]["containers"][0]["env"]
    given = {item["name"]: item["value"] for item in env}
    assert float(given["FRAUD_TRANSFORMER_LATENCY_BUDGET_MS"]) == policy["latency_budget_ms"]
