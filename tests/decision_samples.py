"""Decisions as the transformer makes them, with random numbers in them."""

from __future__ import annotations

from typing import Any

import numpy as np

from feature_repo.event_batch import EventBatch
from feature_repo.feature_names import CATEGORICAL_FEATURES, MODEL_FEATURES
from feature_repo.graph_features import EDGE_FEATURES, HEAD_FEATURES
from feature_repo.settings import EMBEDDING_DIM
from inference_services.transformer.decision_batch import DecisionBatch
from inference_services.transformer.predictors import Answer

VERSION = "0123456789ab"
RNG = np.random.default_rng(11)
PAYMENT = {
    "event_type": "payment_authorized",
    "event_timestamp": 1_770_000_000_000_000,
    "rider_id": "r1-00000000000000aa",
    "device_id": "v1-00000000000000bb",
    "city": "tehran",
    "amount": 250_000,
}


class Encoded(list[bytes]):
    """Decisions whose records are known."""

    def encode(self) -> list[bytes]:
        return self


def floats(*shape: int) -> Any:
    return RNG.standard_normal(shape).astype(np.float32)


def graph(endpoints: list[int], neighbours: list[int]) -> dict[str, Any]:
    """Events with so many endpoints each, and endpoints with so many neighbours each."""
    e, m = sum(endpoints), sum(neighbours)
    return {
        "event_features": floats(len(endpoints), len(HEAD_FEATURES)),
        "endpoint_kind": RNG.integers(0, 4, e),
        "endpoint_event": np.repeat(np.arange(len(endpoints)), endpoints),
        "neighbour_kind": RNG.integers(0, 4, m),
        "edge_index": np.stack([np.arange(m), np.repeat(np.arange(e), neighbours)]),
        "edge_features": floats(m, len(EDGE_FEATURES)),
        f"endpoint_embedding_{VERSION}": floats(e, EMBEDDING_DIM),
        f"endpoint_known_{VERSION}": floats(e),
        f"neighbour_embedding_{VERSION}": floats(m, EMBEDDING_DIM),
        f"neighbour_known_{VERSION}": floats(m),
        "endpoint_embedding_ffffffffffff": floats(e, EMBEDDING_DIM),
    }


def decisions(n: int = 3, **changes: Any) -> DecisionBatch:
    """n decisions, 3 at most unless `graph` is among the changes."""
    features: dict[str, Any] = {
        name: RNG.standard_normal(n) * 10.0 ** RNG.integers(-300, 300, n) for name in MODEL_FEATURES
    }
    features |= {name: np.array(["x"] * n, object) for name in CATEGORICAL_FEATURES}
    features["amount"][0] = np.nan
    answers = {name: RNG.standard_normal(n) for name in ("raw_score", "log_odds", "probability")}
    rows = [{**PAYMENT, "event_id": f"e{i}"} | ({"surge": 1.5} if i else {}) for i in range(n)]
    given: dict[str, Any] = {
        "batch": EventBatch.from_rows(rows),
        "features": features,
        "outputs": {
            "fraud_probability": answers["probability"],
            "decision": np.array(["review"] * n, object),
            "lightgbm_probability": answers["probability"],
            "gnn_probability": answers["probability"],
            "reasons": np.array(['[{"text":"é"}]'] * n, object),
            "degraded": np.array([""] * n, object),
        },
        "lightgbm": Answer(answers, f"7-{VERSION}", {}),
        "gnn": Answer(answers, f"8-{VERSION}", {}),
        "graph": graph([2, 1, 3][:n], [1, 0, 2, 0, 3, 1][: sum([2, 1, 3][:n])]),
        "availability": "full",
        "alarm_offset": RNG.standard_normal(n),
        "sequence": np.arange(n) + 1_770_000_000_000_017,
        "materialised": {"rider_profile": 1_769_990_400_000_000},
        "fusion": "9-cccccccccccc",
        "policy_sha256": "0" * 64,
        "revision": "fraud-detector-00001",
        "request_ids": ["a-request"] * n,
        "decided_at": 1_780_000_000_000_000,
        "latency_ms": 1.23456,
    }
    return DecisionBatch(**given | changes)
