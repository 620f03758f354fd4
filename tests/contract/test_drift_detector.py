"""The drift detector in its own environment, as the manifest runs it, and the bridge that feeds it."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import orjson
import pytest
import redis.asyncio as aioredis

from feature_repo.feature_names import MODEL_FEATURES
from inference_services.bundle import Bundle
from inference_services.drift_detector.bridge import DECISIONS, Bridge, v2_request
from inference_services.drift_detector.settings import BridgeSettings
from inference_services.transformer.decision_record import DecisionRecord
from inference_services.transformer.decisions import FIELD, STREAM
from inference_services.v2_rest import encode_request
from simulators.local_services import free_port
from tests.contract.conftest import ROOT, Service, StartService, make_rows
from tests.decision_samples import decisions
from tests.processes import wait_until
from tests.redis_servers import redis_cluster

NAME = "fraud-drift"
PYTHON = ROOT / ".venv-drift/bin/python"
EVENT = {
    "content-type": "application/json",
    "ce-specversion": "1.0",
    "ce-id": "1",
    "ce-source": "test",
    "ce-type": "org.kubeflow.serving.inference.request",
}
NOT_JUDGED = {"event_type", "city", "hour_of_day", "day_of_week"}
GROWING = ("_tenure_days", "_lifetime_trips", "_confirmed_frauds")
JUDGED = [n for n in MODEL_FEATURES if n not in NOT_JUDGED and not n.endswith(GROWING)]

pytestmark = pytest.mark.skipif(
    not PYTHON.exists(), reason="NOT TESTED: .venv-drift is missing; install requirements/drift.txt into it"
)


@pytest.fixture(scope="module")
def drift(start_service: StartService, lightgbm_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Service:
    env = {"FRAUD_DRIFT_WINDOW": "200", "NUMBA_CACHE_DIR": str(tmp_path_factory.mktemp("numba"))}
    module = "inference_services.drift_detector"
    return start_service(module, NAME, f"--model_dir={lightgbm_bundle.folder}", env=env, python=str(PYTHON))


def rows(n: int, *, shifted: bool, seed: int = 3) -> dict[str, np.ndarray]:
    columns = {name: values for name, values in make_rows(n, seed).items() if values.dtype != object}
    if shifted:
        columns["amount"] = columns["amount"] * 3
    return columns


def body(columns: dict[str, np.ndarray]) -> dict[str, Any]:
    inputs = [
        {"name": k, "datatype": "FP64", "shape": [len(v)], "data": [None if np.isnan(x) else x for x in v.tolist()]}
        for k, v in columns.items()
    ]
    return {"inputs": inputs}


def metric(service: Service, name: str) -> float:
    lines = httpx.get(f"{service.url}/metrics").text.splitlines()
    return float(next(line.rpartition(" ")[2] for line in lines if line.startswith(name + " ")))


@pytest.mark.parametrize("shifted", [False, True])
def test_v2_judges_the_given_rows(shifted: bool, drift: Service):
    response = httpx.post(f"{drift.url}/v2/models/{NAME}/infer", json=body(rows(400, shifted=shifted)), timeout=30)
    assert response.status_code == 200, response.text
    outputs = {o["name"]: o for o in response.json()["outputs"]}
    assert outputs["is_drift"]["data"] == [shifted]
    assert response.json()["parameters"]["features"].split(",") == JUDGED
    assert outputs["p_value"]["shape"] == outputs["distance"]["shape"] == [len(JUDGED)]
    p_value = dict(zip(JUDGED, outputs["p_value"]["data"], strict=True))
    assert (p_value["amount"] < 1e-6) == shifted


def test_changed_share_of_unknown_values_is_drift(drift: Service):
    columns = rows(400, shifted=False)
    columns["amount"][:200] = np.nan
    response = httpx.post(f"{drift.url}/v2/models/{NAME}/infer", json=body(columns), timeout=30)
    assert response.json()["outputs"][0]["data"] == [True]


def test_cloud_events_gather_to_a_window_that_is_judged(drift: Service):
    windows = metric(drift, "fraud_drift_windows_total")
    for seed in range(4):
        part = orjson.dumps(body(rows(50, shifted=True, seed=seed)))
        response = httpx.post(drift.url, content=part, headers=EVENT, timeout=30)
        assert response.status_code == 202, response.text
        assert response.json()["rows"] == (50 * (seed + 1)) % 200
    assert metric(drift, "fraud_drift_windows_total") == windows + 1
    assert metric(drift, "fraud_drift_detected") == 1.0
    assert metric(drift, 'fraud_drift_p_value{feature="amount"}') < 1e-6
    httpx.post(drift.url, content=orjson.dumps(body(rows(200, shifted=False))), headers=EVENT, timeout=30)
    assert metric(drift, "fraud_drift_detected") == 0.0


def test_a_logged_request_with_binary_tensors_is_read(drift: Service):
    """As KServe's agent sends on what the transformer asks, with the header that components/drift has it pass on."""
    before = metric(drift, "fraud_drift_waiting_rows")
    content, length = encode_request(rows(7, shifted=False), {}, ["raw_score"])
    metadata = orjson.dumps({"Inference-Header-Content-Length": [str(length)]}).decode()
    headers = {**EVENT, "content-type": "application/octet-stream", "ce-metadata": metadata}
    response = httpx.post(drift.url, content=content, headers=headers, timeout=30)
    assert response.status_code == 202, response.text
    assert response.json()["rows"] == before + 7


BAD_EVENTS = {
    "no CloudEvent": (b"{}", {"content-type": "application/json"}, "not a CloudEvent"),
    "no V2 request": (b'{"instances": [1]}', EVENT, "not a V2 request"),
    "not JSON": (b"{", EVENT, "not a V2 request"),
    "no headers": (b"{}", {**EVENT, "ce-metadata": "[1]"}, "not the headers of a request"),
    "binary without the header": (
        encode_request({"amount": np.zeros(5)}, {}, [])[0],
        {**EVENT, "content-type": "application/octet-stream"},
        "not a V2 request",
    ),
    "missing feature": (orjson.dumps({"inputs": body(rows(5, shifted=False))["inputs"][:9]}), EVENT, "is missing"),
}


@pytest.mark.parametrize("case", BAD_EVENTS)
def test_bad_cloud_event_is_400(case: str, drift: Service):
    content, headers, message = BAD_EVENTS[case]
    response = httpx.post(drift.url, content=content, headers=headers, timeout=10)
    assert response.status_code == 400, response.text
    assert message in response.json()["error"]


def test_logged_responses_are_left_alone(drift: Service):
    headers = {**EVENT, "ce-type": "org.kubeflow.serving.inference.response"}
    assert httpx.post(drift.url, content=b"{}", headers=headers, timeout=10).status_code == 202


def decision(seed: int, availability: str = "full") -> bytes:
    return next(decisions(1, features=make_rows(1, seed), availability=availability).encode())


@pytest.fixture(autouse=True)
def uncounted() -> None:
    DECISIONS.clear()


def counted() -> dict[str, int]:
    """Decisions by outcome, as the bridge has counted them."""
    samples = [s for metric in DECISIONS.collect() for s in metric.samples if s.name.endswith("_total") and s.value]
    return {sample.labels["outcome"]: int(sample.value) for sample in samples}


async def test_bridge_carries_decisions_once_and_leaves_out_store_outages(drift: Service, redis_url: str):
    settings = BridgeSettings(redis_url=redis_url, target_url=drift.url, batch=30)
    async with aioredis.Redis.from_url(redis_url) as client, httpx.AsyncClient() as http:
        for seed in range(50):
            await client.xadd(STREAM, {FIELD: decision(seed, "no_store" if seed < 10 else "full")})
        before = (await http.post(drift.url, content=b"{}", headers={**EVENT, "ce-type": "other"})).json()["rows"]
        bridge = Bridge(settings, http, client)
        assert [await bridge.step() for _ in range(2)] == [30, 20]
        assert counted() == {"delivered": 40, "without_store": 10}
        restarted = Bridge(settings, http, client)
        assert await restarted.step() == 0
        after = (await http.post(drift.url, content=b"{}", headers={**EVENT, "ce-type": "other"})).json()["rows"]
    assert after == before + 40


async def test_bridge_passes_over_what_is_not_a_decision(drift: Service, redis_url: str):
    short = orjson.loads(decision(1))
    short["features"]["names"].pop()
    damaged = [b"{", b"7", b"{}", decision(1).replace(b'"full"', b"null"), orjson.dumps(short)]
    settings = BridgeSettings(redis_url=redis_url, target_url=drift.url, batch=30)
    async with aioredis.Redis.from_url(redis_url) as client, httpx.AsyncClient() as http:
        await client.xadd(STREAM, {"other": "field"})
        for content in (*damaged, decision(1)):
            await client.xadd(STREAM, {FIELD: content})
        before = (await http.post(drift.url, content=b"{}", headers={**EVENT, "ce-type": "other"})).json()["rows"]
        assert await Bridge(settings, http, client).step() == 7
        after = (await http.post(drift.url, content=b"{}", headers={**EVENT, "ce-type": "other"})).json()["rows"]
    assert after == before + 1
    assert counted() == {"delivered": 1, "unreadable": 6}


async def test_bridge_sends_its_token(redis_url: str, tmp_path: Path):
    sent = []

    def take(request: httpx.Request) -> httpx.Response:
        sent.append(request.headers["authorization"])
        return httpx.Response(202)

    path = tmp_path / "token"
    path.write_text("t" * 32)
    settings = BridgeSettings(redis_url=redis_url, token_file=path)
    async with (
        aioredis.Redis.from_url(redis_url) as client,
        httpx.AsyncClient(transport=httpx.MockTransport(take)) as http,
    ):
        await client.xadd(STREAM, {FIELD: decision(1)})
        assert await Bridge(settings, http, client).step() == 1
    assert sent == ["Bearer " + "t" * 32]


async def test_bridge_reads_the_stream_of_a_cluster(tmp_path: Path):
    def take(request: httpx.Request) -> httpx.Response:
        return httpx.Response(202)

    with redis_cluster(tmp_path) as nodes:
        url = f"redis://127.0.0.1:{nodes[0].port}"
        settings = BridgeSettings(redis_url=url, redis_type="redis_cluster")
        async with (
            aioredis.RedisCluster.from_url(url) as client,
            httpx.AsyncClient(transport=httpx.MockTransport(take)) as http,
        ):
            await client.xadd(STREAM, {FIELD: decision(1)})
            assert [await Bridge(settings, http, client).step() for _ in range(2)] == [1, 0]


async def test_bridge_retries_and_then_gives_up_a_batch(redis_url: str):
    calls = []

    def refuse(request: httpx.Request) -> httpx.Response:
        calls.append(request.headers["ce-type"])
        return httpx.Response(503)

    settings = BridgeSettings(redis_url=redis_url, attempts=3)
    async with (
        aioredis.Redis.from_url(redis_url) as client,
        httpx.AsyncClient(transport=httpx.MockTransport(refuse)) as http,
    ):
        await client.xadd(STREAM, {FIELD: decision(1)})
        assert await Bridge(settings, http, client, pause_s=0.001).step() == 1
        assert await Bridge(settings, http, client).step() == 0
    assert counted() == {"given_up": 1}
    assert calls == [EVENT["ce-type"]] * 3


def test_bridge_process_serves_its_metrics_while_redis_is_away(tmp_path: Path):
    port, nobody = free_port(), free_port()
    env = {
        "FRAUD_DRIFT_BRIDGE_REDIS_URL": f"redis://127.0.0.1:{nobody}",
        "FRAUD_DRIFT_BRIDGE_METRICS_PORT": str(port),
    }
    command = [PYTHON, "-m", "inference_services.drift_detector.bridge"]
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(command, cwd=ROOT, env={**os.environ, **env}, stdout=log, stderr=log)
    try:
        wait_until(lambda: retries(port) or process.poll() is not None)
        assert process.poll() is None, (tmp_path / "log").read_text()
    finally:
        process.terminate()
        assert process.wait(10) == 0


def retries(port: int) -> bool:
    """Whether the page of metrics says that Redis was tried in vain."""
    try:
        page = httpx.get(f"http://127.0.0.1:{port}/metrics").text
    except httpx.TransportError:
        return False
    return re.search(r"^fraud_drift_bridge_retries_total [1-9]", page, re.MULTILINE) is not None


def test_v2_request_of_decisions_has_the_numeric_features():
    request = v2_request([DecisionRecord.from_json(decision(seed)) for seed in (1, 2)])
    assert {t["name"] for t in request["inputs"]} == set(MODEL_FEATURES) - {"event_type", "city"}
    assert all(t["shape"] == [2] for t in request["inputs"])


def test_only_the_detector_module_imports_alibi_detect():
    files = [*(ROOT / "inference_services").rglob("*.py"), *(ROOT / "components").rglob("*.py")]
    importing = [path.name for path in files if "alibi_detect" in path.read_text()]
    assert importing == ["detector.py"]
