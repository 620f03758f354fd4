"""What a transformer is made of, played: a store, two models and their failures; and a decider over them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import orjson

from feature_repo.errors import StoreUnavailable
from feature_repo.event_batch import EventBatch
from feature_repo.feature_names import MODEL_FEATURES, STORE_FEATURES
from feature_repo.graph_features import INTERACTION
from feature_repo.online_reader import StoreRead
from feature_repo.request_features import CityNorms
from inference_services.graph_parts import ENDPOINT_INFLUENCE, NEIGHBOUR_INFLUENCE
from inference_services.transformer.decider import Decider
from inference_services.transformer.feature_tensors import FEATURE_PARAMETERS
from inference_services.transformer.fusion import Fusion
from inference_services.transformer.predictors import V2Client
from inference_services.transformer.rules.rule_set import RuleSet
from tests.contract.fusion_bundle import G1, L1, NAME, PAYMENT, write_fusion
from tests.contract.predictor_fake import Handler, PlayedServer

SEEN = 1_770_000_000_000_017


class FakeStore:
    def __init__(
        self, available: bool = True, delay_s: float = 0.0, *, embeddings: bool = True, embeddings_delay_s: float = 0.0
    ) -> None:
        self.available = available
        self.delay_s = delay_s
        self.has_embeddings = available and embeddings
        self.embeddings_delay_s = embeddings_delay_s

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
        interactions["key_id"][:, 0, :2] = 1
        interactions["ts"][:, 0, :2] = (batch["event_timestamp"] - 600_000_000)[:, None]
        features = {name: np.ones(n) for name in STORE_FEATURES}
        return StoreRead(True, features, CityNorms.unknown(n), interactions, counts, np.full(n, SEEN))

    async def embeddings(self, version: str, kinds: Any, ids: Any, key_ids: Any, dim: int) -> Any:
        await asyncio.sleep(self.embeddings_delay_s)
        if not self.has_embeddings:
            raise StoreUnavailable("down")
        assert version == G1
        assert len(kinds) == len(ids) == len(key_ids)
        return np.full((len(kinds), dim), 0.5, np.float32), np.ones(len(kinds), np.float32)

    async def close(self) -> None:
        pass


TYPICAL = {"payment_authorized": {"amount": [20_000, 60_000, 200_000]}}
EXPLAIN_LIGHTGBM = [{"name": "contributions"}]
EXPLAIN_GNN = [{"name": NEIGHBOUR_INFLUENCE}, {"name": ENDPOINT_INFLUENCE}]


def answering(log_odds: float, version: str, seen: list[dict[str, Any]] | None = None) -> Handler:
    def handle(request: dict[str, Any]) -> httpx.Response:
        if seen is not None:
            seen.append(request)
        shapes = {t["name"]: t["shape"] for t in request["inputs"]}
        n = shapes["event_features" if "event_features" in shapes else "amount"][0]
        values = {"raw_score": log_odds, "log_odds": log_odds, "probability": float(1 / (1 + np.exp(-log_odds)))}
        outputs = [{"name": k, "datatype": "FP64", "shape": [n], "data": [v] * n} for k, v in values.items()]
        parameters = {}
        if request.get("outputs") == EXPLAIN_LIGHTGBM:
            row = [0.0] * (len(MODEL_FEATURES) + 1)
            row[MODEL_FEATURES.index("amount")] = 2.0
            outputs = [{"name": "contributions", "datatype": "FP64", "shape": [n, len(row)], "data": row * n}]
            parameters = {"features": ",".join(MODEL_FEATURES), "typical_values": orjson.dumps(TYPICAL).decode()}
        elif request.get("outputs") == EXPLAIN_GNN:
            m, e = shapes["edge_index"][1], shapes["endpoint_kind"][0]
            falls = {NEIGHBOUR_INFLUENCE: [0.1, 0.4] * (m // 2), ENDPOINT_INFLUENCE: [0.6, *[0.0] * 2] * (e // 3)}
            outputs = [{"name": k, "datatype": "FP64", "shape": [len(v)], "data": v} for k, v in falls.items()]
        body = {"model_version": f"3-{version}", "parameters": parameters}
        return httpx.Response(200, content=orjson.dumps({**body, "outputs": outputs}))

    return handle


# What the explanations come to.
FEATURE_REASON = {
    "text": "amount of 250,000 toman; payments like this have 60,000 toman",
    "kind": "feature",
    "feature": "amount",
    "value": 250_000.0,
    "typical": {"low": 20_000.0, "median": 60_000.0, "high": 200_000.0},
    "contribution": 2.0,
}
DRIVER = "d1-00000000000000dd"
GRAPH_REASON = {
    "text": "this rider's last 2 events were with 1 driver and 1 device (d1-0000…), all of them within one hour; "
    "most telling: a trip request with driver d1-0000…, 10 minutes earlier",
    "kind": "graph",
    "entity": PAYMENT["rider_id"],
    "neighbour": DRIVER,
    "contribution": 0.6,
}


def without_neighbours(reasons: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in reason.items() if name != "neighbours"} for reason in reasons]


def refusing(_: dict[str, Any]) -> httpx.Response:
    raise ConnectionRefusedError("connection refused")


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


DecideOne = Callable[..., Any]


def decide_with(folder: Path) -> DecideOne:
    """Decides one payment, or the events given, and returns the record that goes to the decision stream, or all.

    Args:
        folder: folder for the fusion bundles.
    """
    write_fusion(folder / "fusion")
    fusion = Fusion.load(folder / "fusion")

    def run(
        lightgbm: Handler,
        gnn: Handler,
        *,
        store: FakeStore | None = None,
        budget_s: float = 5.0,
        events: list[dict[str, Any]] | None = None,
        offsets: dict[str, dict[str, float]] | None = None,
        older: bool = False,
        rules: RuleSet | None = None,
    ) -> Any:
        other = offsets is not None or older
        equalised = _loaded(folder / "other", offsets, older=older) if other else fusion

        async def call() -> Any:
            trees = V2Client(PlayedServer(lightgbm), NAME, parameters=FEATURE_PARAMETERS)
            graphs = V2Client(PlayedServer(gnn), "fraud-gnn")
            decider = Decider(store or FakeStore(), trees, graphs, equalised, budget_s=budget_s, rules=rules)
            decided = await decider.decide(EventBatch.from_rows(events or [PAYMENT]))
            records = [orjson.loads(record) for record in decided.records.encode()]
            for name, values in decided.outputs.items():
                assert values.shape == (len(records),)
                told = map(orjson.loads, values) if name == "reasons" else values
                assert [record[name] for record in records] == list(told)
            return records if events else records[0]

        return asyncio.run(call())

    return run


def _loaded(folder: Path, offsets: dict[str, dict[str, float]] | None, *, older: bool = False) -> Fusion:
    write_fusion(folder, offsets=offsets, older=older)
    return Fusion.load(folder)
