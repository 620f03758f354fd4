"""The transformer: degradation with a fake store and fake predictors at the transport seam."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import orjson
import pytest

from feature_repo.errors import StoreUnavailable
from feature_repo.event_batch import EventBatch
from feature_repo.feature_names import MODEL_FEATURES, STORE_FEATURES
from feature_repo.graph_features import INTERACTION
from feature_repo.online_reader import StoreRead
from feature_repo.request_features import CityNorms
from feature_repo.settings import EMBEDDING_DIM
from inference_services.transformer.decider import Decider
from inference_services.transformer.fusion import Fusion
from inference_services.transformer.predictors import V2Client
from tests.contract.fusion_bundle import G1, G2, L1, L2, NAME, PAYMENT, write_fusion

SEEN = 1_770_000_000_000_017


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
        return StoreRead(True, features, CityNorms.unknown(n), interactions, counts, np.full(n, SEEN))

    async def embeddings(self, version: str, kinds: Any, ids: Any, key_ids: Any, dim: int) -> Any:
        if not self.available:
            raise StoreUnavailable("down")
        assert version == G1
        assert len(kinds) == len(ids) == len(key_ids)
        return np.full((len(kinds), dim), 0.5, np.float32), np.ones(len(kinds), np.float32)

    async def close(self) -> None:
        pass


Handler = Callable[[dict[str, Any]], httpx.Response | None]


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


def endless(_: dict[str, Any]) -> None:
    """Stands for a model that never answers."""


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
            response = handler(orjson.loads(request.content))
            if response is None:
                await asyncio.sleep(60)
                raise httpx.ReadTimeout("nobody waited this long")
            return response

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
    assert record["seen_sequence"] == SEEN
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
