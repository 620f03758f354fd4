"""The transformer: degradation with a fake store and fake predictors at the transport seam; then as a process."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import orjson
import pytest
import redis
from kserve import InferInput, InferRequest

from feature_repo.errors import StoreUnavailable
from feature_repo.event_batch import EventBatch
from feature_repo.feature_names import MODEL_FEATURES, STORE_FEATURES
from feature_repo.graph_features import INTERACTION
from feature_repo.online_reader import StoreRead
from feature_repo.request_features import CityNorms
from feature_repo.settings import EMBEDDING_DIM
from inference_services.bundle import Bundle, write_manifest
from inference_services.transformer.decider import Decider
from inference_services.transformer.decisions import STREAM
from inference_services.transformer.fusion import Fusion
from inference_services.transformer.predictors import V2Client
from tests.contract.conftest import Service, StartService

L1, L2, G1, G2 = "a" * 12, "b" * 12, "c" * 12, "d" * 12
NAME = "fraud-detector"
PAYMENT = {
    "event_id": "e1",
    "event_type": "payment_authorized",
    "event_timestamp": 1_770_000_000_000_000,
    "rider_id": "r1-00000000000000aa",
    "device_id": "v1-00000000000000bb",
    "payment_instrument_id": "p1-00000000000000cc",
    "city": "tehran",
    "trip_id": "t1",
    "amount": 250_000,
    "payment_method": "card",
    "attempt": 1,
}


def write_fusion(folder: Path, lightgbm: str = L1) -> Bundle:
    def pair(lgb: str | None, gnn: str | None, mask: str, weights: list[float], b: float) -> dict[str, Any]:
        return {"lightgbm": lgb, "gnn": gnn, "mask": mask, "weights": weights, "intercept": b}

    pairs = [
        pair(lightgbm, G1, "full", [0.6, 0.5], 0.1),
        pair(lightgbm, None, "full", [1.0, 0.0], 0.0),
        pair(lightgbm, None, "no_store", [0.9, 0.0], -0.3),
        pair(None, G1, "full", [0.0, 1.0], 0.0),
    ]
    kinds = ("trip_requested", "trip_completed", "payment_authorized", "promo_redeemed", "refund_claimed")
    limits = {kind: {"review": 0.3, "block": 0.8} for kind in (*kinds, "account_changed")}
    folder.mkdir(parents=True, exist_ok=True)
    content = {"pairs": pairs, "thresholds": limits, "policy_sha256": "0" * 64, "lightgbm": lightgbm, "gnn": G1}
    (folder / "fusion.json").write_text(json.dumps(content))
    return write_manifest(folder, "fraud-fusion", {})


class FakeStore:
    def __init__(self, available: bool = True, delay_s: float = 0.0) -> None:
        self.available = available
        self.delay_s = delay_s

    async def read(self, batch: EventBatch) -> StoreRead:
        await asyncio.sleep(self.delay_s)
        n = len(batch)
        if not self.available:
            return StoreRead.nothing(n)
        interactions = np.zeros((n, 4, 8), INTERACTION)
        counts = np.zeros((n, 4), np.int64)
        counts[:, 0] = 2
        interactions["id"][:, 0, :2] = [0xBB, 0xDD]
        interactions["kind"][:, 0, :2] = [2, 1]
        features = {name: np.ones(n) for name in STORE_FEATURES}
        return StoreRead(True, features, CityNorms.unknown(n), interactions, counts)

    async def embeddings(self, version: str, kinds: Any, ids: Any, key_ids: Any, dim: int) -> Any:
        if not self.available:
            raise StoreUnavailable("down")
        assert version == G1
        assert len(kinds) == len(ids) == len(key_ids)
        return np.full((len(kinds), dim), 0.5, np.float32), np.ones(len(kinds), np.float32)

    async def close(self) -> None:
        pass


Handler = Callable[[dict[str, Any]], httpx.Response]


def answering(log_odds: float, version: str, seen: list[dict[str, Any]] | None = None) -> Handler:
    def handle(request: dict[str, Any]) -> httpx.Response:
        if seen is not None:
            seen.append(request)
        shapes = {t["name"]: t["shape"] for t in request["inputs"]}
        n = shapes["event_features" if "event_features" in shapes else "amount"][0]
        values = {"raw_score": log_odds, "log_odds": log_odds, "probability": float(1 / (1 + np.exp(-log_odds)))}
        outputs = [{"name": k, "datatype": "FP64", "shape": [n], "data": [v] * n} for k, v in values.items()]
        if request.get("outputs"):
            row = [0.0] * (len(MODEL_FEATURES) + 1)
            row[MODEL_FEATURES.index("amount")] = 2.0
            outputs = [{"name": "contributions", "datatype": "FP64", "shape": [n, len(row)], "data": row * n}]
        body = {"model_version": f"3-{version}", "parameters": {"features": ",".join(MODEL_FEATURES)}}
        return httpx.Response(200, content=orjson.dumps({**body, "outputs": outputs}))

    return handle


def refusing(_: dict[str, Any]) -> httpx.Response:
    raise httpx.ConnectError("connection refused")


def broken(_: dict[str, Any]) -> httpx.Response:
    return httpx.Response(500, text="boom")


def nonsense(_: dict[str, Any]) -> httpx.Response:
    return httpx.Response(200, json={"outputs": [{"name": "log_odds", "shape": [1], "data": ["x"]}]})


def _misshapen(shape: list[int]) -> Handler:
    def handle(_: dict[str, Any]) -> httpx.Response:
        outputs = [{"name": name, "shape": shape, "data": [0.5]} for name in ("log_odds", "probability")]
        return httpx.Response(200, json={"model_version": f"3-{L1}", "outputs": outputs})

    return handle


MISSHAPEN = [_misshapen([]), _misshapen([1, 1])]


def endless(request: dict[str, Any]) -> httpx.Response:
    raise NotImplementedError


DecideOne = Callable[..., dict[str, Any]]


@pytest.fixture
def decide(tmp_path: Path) -> DecideOne:
    """Decides one payment and returns the record that goes to the decision stream."""
    write_fusion(tmp_path / "fusion")
    fusion = Fusion.load(tmp_path / "fusion")

    def run(
        lightgbm: Handler,
        gnn: Handler,
        *,
        store: FakeStore | None = None,
        budget_s: float = 5.0,
    ) -> dict[str, Any]:
        async def transport(request: httpx.Request) -> httpx.Response:
            handler = gnn if "fraud-gnn" in request.url.path else lightgbm
            if handler is endless:
                await asyncio.sleep(60)
            return handler(orjson.loads(request.content))

        async def call() -> dict[str, Any]:
            async with httpx.AsyncClient(transport=httpx.MockTransport(transport)) as http:
                clients = V2Client("http://lightgbm", NAME, http), V2Client("http://gnn", "fraud-gnn", http)
                decider = Decider(store or FakeStore(), *clients, fusion, budget_s=budget_s)
                decided = await decider.decide(EventBatch.from_rows([PAYMENT]))
            record = orjson.loads(decided.records[0])
            for name, values in decided.outputs.items():
                assert values.shape == (1,)
                assert name == "reasons" or record[name] == values[0]
            return record

        return asyncio.run(call())

    return run


def sigmoid(x: float) -> float:
    return float(1 / (1 + np.exp(-x)))


def test_both_models_are_fused_by_the_row_of_the_pair_that_answered(decide: DecideOne):
    record = decide(answering(1.0, L1), answering(2.0, G1))
    assert record["fraud_probability"] == pytest.approx(sigmoid(0.6 * 1.0 + 0.5 * 2.0 + 0.1))
    assert record["lightgbm_probability"] == pytest.approx(sigmoid(1.0))
    assert record["gnn_probability"] == pytest.approx(sigmoid(2.0))
    assert (record["lightgbm_version"], record["gnn_version"]) == (f"3-{L1}", f"3-{G1}")
    assert record["degraded"] == ""
    assert set(record["features"]) == set(MODEL_FEATURES)


@pytest.mark.parametrize("gone", [refusing, broken, nonsense, *MISSHAPEN])
def test_graph_model_gone_leaves_lightgbm_alone(gone: Handler, decide: DecideOne):
    record = decide(answering(1.0, L1), gone)
    assert record["fraud_probability"] == pytest.approx(sigmoid(1.0))
    assert (record["gnn_probability"], record["gnn_version"]) == (-1.0, None)
    assert record["degraded"] == "gnn"


@pytest.mark.parametrize("gone", [refusing, broken, nonsense, *MISSHAPEN])
def test_lightgbm_gone_leaves_the_graph_model_alone(gone: Handler, decide: DecideOne):
    record = decide(gone, answering(2.0, G1))
    assert record["fraud_probability"] == pytest.approx(sigmoid(2.0))
    assert record["lightgbm_probability"] == -1.0
    assert record["degraded"] == "lightgbm"
    assert record["decision"] == "block"
    assert record["reasons"] == []


def test_store_down_leaves_request_features_and_skips_the_graph_model(decide: DecideOne):
    seen: list[dict[str, Any]] = []
    record = decide(answering(1.0, L1, seen), answering(2.0, G1), store=FakeStore(available=False))
    assert record["fraud_probability"] == pytest.approx(sigmoid(0.9 * 1.0 - 0.3))
    assert record["degraded"] == "store,gnn"
    sent = {t["name"]: t["data"] for t in seen[0]["inputs"]}
    assert all(sent[name] == [None] for name in STORE_FEATURES)
    assert sent["amount"] == [250_000.0]


def test_everything_down_is_reviewed_and_named(decide: DecideOne):
    record = decide(refusing, refusing, store=FakeStore(available=False))
    assert (record["decision"], record["fraud_probability"]) == ("review", -1.0)
    assert record["degraded"] == "store,gnn,lightgbm"


def test_models_that_hang_are_given_up(decide: DecideOne):
    record = decide(endless, endless, budget_s=0.2)
    assert (record["decision"], record["degraded"]) == ("review", "gnn,lightgbm")


def test_slow_store_is_given_up(decide: DecideOne):
    record = decide(answering(1.0, L1), answering(2.0, G1), store=FakeStore(delay_s=30), budget_s=1.0)
    assert record["degraded"] == "store,gnn"


def test_unknown_pair_falls_back_to_lightgbm_alone(decide: DecideOne):
    record = decide(answering(1.0, L1), answering(2.0, G2))
    assert record["fraud_probability"] == pytest.approx(sigmoid(1.0))
    assert record["degraded"] == "gnn"


def test_unknown_lightgbm_version_falls_back_to_the_graph_model(decide: DecideOne):
    record = decide(answering(1.0, L2), answering(2.0, G1))
    assert record["fraud_probability"] == pytest.approx(sigmoid(2.0))
    assert record["degraded"] == "lightgbm"


def test_two_unknown_versions_are_reviewed(decide: DecideOne):
    record = decide(answering(1.0, L2), answering(2.0, G2))
    assert (record["decision"], record["degraded"]) == ("review", "gnn,lightgbm")


def test_only_flagged_events_are_explained(decide: DecideOne):
    flagged_calls: list[dict[str, Any]] = []
    flagged = decide(answering(3.0, L1, flagged_calls), answering(2.0, G1))
    assert flagged["decision"] == "block"
    assert flagged["reasons"] == ["amount of 250000 raises the risk"]
    assert [call.get("outputs") for call in flagged_calls] == [None, [{"name": "contributions"}]]
    allowed_calls: list[dict[str, Any]] = []
    allowed = decide(answering(-3.0, L1, allowed_calls), answering(-2.0, G1))
    assert (allowed["decision"], allowed["reasons"], len(allowed_calls)) == ("allow", [], 1)


def test_contributions_of_another_shape_cost_the_reasons_only(decide: DecideOne):
    def flat(request: dict[str, Any]) -> httpx.Response:
        if not request.get("outputs"):
            return answering(3.0, L1)(request)
        output = {"name": "contributions", "shape": [1], "data": [1.0]}
        return httpx.Response(200, json={"model_version": f"3-{L1}", "outputs": [output]})

    record = decide(flat, answering(2.0, G1))
    assert (record["decision"], record["reasons"], record["degraded"]) == ("block", [], "")


def test_graph_model_gets_the_event_subgraph(decide: DecideOne):
    seen: list[dict[str, Any]] = []
    decide(answering(1.0, L1), answering(2.0, G1, seen))
    sent = {t["name"]: t for t in seen[0]["inputs"]}
    assert sent["endpoint_kind"]["data"] == [0, 2, 3]
    assert sent["endpoint_event"]["data"] == [0, 0, 0]
    assert sent["neighbour_kind"]["data"] == [2, 1]
    assert sent["edge_index"]["data"] == [0, 1, 0, 0]
    assert sent[f"endpoint_embedding_{G1}"]["shape"] == [3, EMBEDDING_DIM]
    assert sent[f"neighbour_known_{G1}"]["data"] == [1.0, 1.0]
    assert sent["event_features"]["shape"][0] == 1


def tensors_of(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    names = sorted({name for event in events for name in event})
    result = []
    for name in names:
        values = [event.get(name) for event in events]
        sample = next(v for v in values if v is not None)
        datatype = "BYTES" if isinstance(sample, str) else "BOOL" if isinstance(sample, bool) else "INT64"
        datatype = "FP64" if isinstance(sample, float) else datatype
        absent = {"BYTES": "", "INT64": 0, "BOOL": False, "FP64": None}[datatype]
        data = [absent if v is None else v for v in values]
        result.append({"name": name, "datatype": datatype, "shape": [len(data)], "data": data})
        if datatype in {"INT64", "BOOL"} and None in values:
            mask = [v is not None for v in values]
            result.append({"name": f"{name}_present", "datatype": "BOOL", "shape": [len(data)], "data": mask})
    return result


@pytest.fixture(scope="module")
def transformer(
    start_service: StartService,
    predictor: Service,
    lightgbm_bundle: Bundle,
    redis_server: Any,
    tmp_path_factory: pytest.TempPathFactory,
) -> Any:
    work = tmp_path_factory.mktemp("transformer")
    write_fusion(work / "fusion", lightgbm_bundle.sha12)
    env = {
        "FRAUD_TRANSFORMER_REDIS_URL": redis_server.url,
        "FRAUD_TRANSFORMER_FUSION_URI": (work / "fusion").as_uri(),
        "FRAUD_TRANSFORMER_GNN_URL": "http://127.0.0.1:9",
        "FRAUD_TRANSFORMER_SPOOL_DIR": str(work / "spool"),
        "FRAUD_TRANSFORMER_LATENCY_BUDGET_MS": "5000",
        "K_REVISION": "fraud-detector-00002",
    }
    host = f"--predictor_host=127.0.0.1:{predictor.http_port}"
    return start_service("inference_services.transformer", NAME, host, env=env)


def post(service: Any, inputs: list[dict[str, Any]]) -> httpx.Response:
    return httpx.post(f"{service.url}/v2/models/{NAME}/infer", json={"inputs": inputs}, timeout=30)


def test_process_decides_and_publishes(transformer: Any, redis_server: Any):
    trip = {
        "event_id": "e2",
        "event_type": "trip_completed",
        "event_timestamp": PAYMENT["event_timestamp"],
        "rider_id": PAYMENT["rider_id"],
        "driver_id": "d1-00000000000000dd",
        "device_id": PAYMENT["device_id"],
        "city": "tehran",
        "trip_id": "t2",
    }
    from feature_repo.event_schemas import CATALOGUE

    samples = {"string": "card", "integer": 5, "number": 35.5, "boolean": True}
    for name in CATALOGUE.required["trip_completed"] - trip.keys():
        trip[name] = samples[CATALOGUE.fields[name].json_type]
    events = [{**PAYMENT, "event_id": f"pay-{i}"} if i % 2 else {**trip, "event_id": f"trip-{i}"} for i in range(40)]
    response = post(transformer, tensors_of(events))
    assert response.status_code == 200, response.text
    outputs = {o["name"]: o["data"] for o in response.json()["outputs"]}
    assert all(len(values) == 40 for values in outputs.values())
    assert set(outputs["degraded"]) == {"gnn"}
    assert set(outputs["gnn_probability"]) == {-1.0}
    assert all(0 <= p <= 1 for p in outputs["fraud_probability"])
    with redis.Redis.from_url(redis_server.url) as client:
        records = wait_for_records(client, {event["event_id"] for event in events})
    by_id = dict(zip((event["event_id"] for event in events), outputs["fraud_probability"], strict=True))
    assert {r["event_id"]: r["fraud_probability"] for r in records} == by_id
    assert {r["revision"] for r in records} == {"fraud-detector-00002"}
    metrics = httpx.get(f"{transformer.url}/metrics").text
    assert 'fraud_degraded_total{missing="gnn"} 40.0' in metrics


def wait_for_records(client: Any, ids: set[str]) -> list[dict[str, Any]]:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        records = [orjson.loads(fields[b"decision"]) for _, fields in client.xrange(STREAM)]
        mine = [r for r in records if r.get("event_id") in ids]
        if {r["event_id"] for r in mine} == ids:
            return mine
        time.sleep(0.05)
    raise AssertionError("the decisions did not reach the stream")


def changed(**changes: Any) -> list[dict[str, Any]]:
    return tensors_of([{k: v for k, v in {**PAYMENT, **changes}.items() if v is not None}])


BAD = {
    "missing field": (changed(amount=None), "row 0: field 'amount' is required for payment_authorized"),
    "field of another type": (changed(promo_code="X"), "row 0: field 'promo_code' does not belong"),
    "unscored type": (changed(event_type="trip_cancelled"), "row 0: field"),
    "unknown type": (changed(event_type="teleported"), "row 0: field 'event_type' must be one of"),
    "raw id": (changed(rider_id="09121234567"), "row 0: field 'rider_id' is not a pseudonym"),
    "id of another kind": (changed(rider_id="d1-00000000000000dd"), "row 0: field 'rider_id' is not a pseudonym"),
    "out of range": (changed(amount=-1), "row 0: field 'amount' must be between"),
    "wrong datatype": (changed(amount=2.5), "field 'amount' must have datatype INT64"),
    "unknown field": (changed(shoe_size=44), "field 'shoe_size' is not an event field"),
    "mask without its field": (
        [*changed(), {"name": "surge_present", "datatype": "BOOL", "shape": [1], "data": [True]}],
        "field 'surge_present' is not an event field",
    ),
    "unequal lengths": (
        [*changed(), {"name": "surge", "datatype": "FP64", "shape": [2], "data": [1.0, 1.0]}],
        "field 'surge' has 2 rows",
    ),
    "empty batch": ([{"name": "event_id", "datatype": "BYTES", "shape": [0], "data": []}], "is empty"),
    "too many rows": (tensors_of([PAYMENT] * 1025), "has 1025 rows"),
}


@pytest.mark.parametrize("raw", ["+98 912 123 4567", "+989121234567", "۰۹۱۲۱۲۳۴۵۶۷"])
@pytest.mark.parametrize("field", ["rider_id", "device_id", "payment_instrument_id"])
def test_a_raw_phone_number_is_refused_without_being_repeated(field: str, raw: str, transformer: Any):
    response = post(transformer, changed(**{field: raw}))
    assert response.status_code == 400, response.text
    assert repr(field) in response.json()["error"]
    assert raw not in response.json()["error"]


@pytest.mark.parametrize("case", BAD)
def test_invalid_event_is_400_and_names_field_and_row(case: str, transformer: Any):
    inputs, message = BAD[case]
    response = post(transformer, inputs)
    assert response.status_code == 400, response.text
    assert message in response.json()["error"]
    assert "09121234567" not in response.text


async def test_grpc_answers_too(transformer: Any):
    from kserve import InferenceGRPCClient

    inputs = []
    for tensor in changed(event_id="by-grpc"):
        dtype = {"BYTES": object, "INT64": np.int64, "FP64": np.float64}[tensor["datatype"]]
        item = InferInput(tensor["name"], tensor["shape"], tensor["datatype"])
        item.set_data_from_numpy(np.array(tensor["data"], dtype))
        inputs.append(item)
    client = InferenceGRPCClient(transformer.grpc, timeout=20)
    answer = await client.infer(InferRequest(model_name=NAME, infer_inputs=inputs))
    decision = answer.get_output_by_name("decision").as_numpy()
    assert decision[0] in {b"allow", b"review", b"block"}
    await client.close()
