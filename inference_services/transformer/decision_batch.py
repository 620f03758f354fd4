"""n decisions as columns, turned into their records when nobody waits for the answer any more."""

from __future__ import annotations

import os
from binascii import b2a_base64
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import count
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from feature_repo.event_batch import EventBatch
from feature_repo.feature_names import CATEGORICAL_FEATURES
from inference_services.bundle import sha12_of
from inference_services.calibration import NO_GRAPH
from inference_services.transformer.decision_record import GRAPH_FLOATS, SCHEMA, RulesRecord
from inference_services.transformer.predictors import Answer

# No two processes share the first, and no two batches of a process the second.
_PROCESS, _BATCHES = os.urandom(8).hex(), count()

Column = NDArray[Any]


@dataclass(frozen=True)
class DecisionBatch:
    """n decisions that were made together.

    Attributes:
        batch: the events.
        features: MODEL_FEATURES by name, each [n], as the models got them.
        outputs: the V2 outputs by name, each [n].
        lightgbm: the LightGBM predictor's answer, None when it gave none.
        gnn: the graph model's, likewise.
        graph: the tensors that the graph model was asked with, None when it was not asked.
        availability: mask by which the scores were fused.
        alarm_offset: [n].
        sequence: last event applied to any of each event's entities, [n].
        materialised: by view, when its newest row became usable, microseconds since the epoch.
        fusion: label of the fusion bundle.
        policy_sha256: hash of its policy.
        revision: of this process.
        request_ids: of the request that each event came in.
        decided_at: microseconds since the epoch.
        latency_ms: of the decisions together.
        rules: of each event, what the rules said; empty where none were evaluated.
        serial: which of this process's batches it is.
    """

    batch: EventBatch
    features: Mapping[str, Column]
    outputs: Mapping[str, Column]
    lightgbm: Answer | None
    gnn: Answer | None
    graph: Mapping[str, Column] | None
    availability: str
    alarm_offset: NDArray[np.float64]
    sequence: NDArray[np.int64]
    materialised: Mapping[str, int]
    fusion: str
    policy_sha256: str
    revision: str
    request_ids: Sequence[str]
    decided_at: int
    latency_ms: float
    rules: Sequence[RulesRecord] = ()
    serial: int = field(default_factory=lambda: next(_BATCHES))

    def __len__(self) -> int:
        return len(self.batch)

    def encode(self) -> Iterator[bytes]:
        """The records as JSON, in order."""
        return map(orjson.dumps, self._records())

    def _records(self) -> Iterator[dict[str, Any]]:
        """The records as dicts, which are made faster than objects: what `DecisionRecord` names, in its order."""
        n = len(self)
        events, features, graphs = _events(self.batch), _features(self.features), self._graphs()
        outputs = {name: values.tolist() for name, values in self.outputs.items()}
        lightgbm, gnn = _Answered.of(self.lightgbm, n), _Answered.of(self.gnn, n)
        offsets, sequences = self.alarm_offset.tolist(), self.sequence.tolist()
        latency_ms, materialised = round(self.latency_ms, 3), orjson.Fragment(orjson.dumps(self.materialised))
        for row in range(n):
            yield {
                "schema": SCHEMA,
                "decision_id": f"{_PROCESS}-{self.serial}-{row}",
                "event_id": events[row]["event_id"],
                "request_id": self.request_ids[row],
                "decided_at": self.decided_at,
                "event": events[row],
                "decision": outputs["decision"][row],
                "fraud_probability": outputs["fraud_probability"][row],
                "alarm_offset": offsets[row],
                "degraded": outputs["degraded"][row],
                "availability": self.availability,
                "reasons": orjson.Fragment(outputs["reasons"][row]),
                "rules": self.rules[row] if self.rules else None,
                "lightgbm_version": lightgbm.version,
                "lightgbm_raw_score": lightgbm.raw_score[row],
                "lightgbm_log_odds": lightgbm.log_odds[row],
                "lightgbm_probability": outputs["lightgbm_probability"][row],
                "gnn_version": gnn.version,
                "gnn_raw_score": gnn.raw_score[row],
                "gnn_log_odds": gnn.log_odds[row],
                "gnn_probability": outputs["gnn_probability"][row],
                "fusion": self.fusion,
                "policy_sha256": self.policy_sha256,
                "revision": self.revision,
                "seen_sequence": sequences[row],
                "materialised": materialised,
                "latency_ms": latency_ms,
                "features": features[row],
                "graph": graphs[row],
            }

    def _graphs(self) -> Sequence[dict[str, Any] | None]:
        sha12 = sha12_of(self.gnn.version) if self.gnn else None
        # A version that was not asked with its embeddings has no score that counts.
        if self.graph is None or sha12 is None or f"endpoint_embedding_{sha12}" not in self.graph:
            return [None] * len(self)
        if self.availability == NO_GRAPH:
            return graph_requests(_without_graph(self.graph), sha12, len(self))
        return graph_requests(self.graph, sha12, len(self))


@dataclass(frozen=True)
class _Answered:
    """A predictor's answer by event, None throughout when it gave none."""

    version: str | None
    raw_score: Sequence[float | None]
    log_odds: Sequence[float | None]

    @classmethod
    def of(cls, answer: Answer | None, n: int) -> _Answered:
        nothing = [None] * n
        if answer is None:
            return cls(None, nothing, nothing)
        raw = answer.outputs.get("raw_score")
        return cls(answer.version, nothing if raw is None else raw.tolist(), answer.outputs["log_odds"].tolist())


def _events(batch: EventBatch) -> list[dict[str, Any]]:
    """The events as JSON-like records without their absent fields."""
    events: list[dict[str, Any]] = [{} for _ in range(len(batch))]
    for name, there in zip(batch.present, np.array(list(batch.present.values())).tolist(), strict=True):
        if True not in there:
            continue
        for event, value, present in zip(events, batch[name].tolist(), there, strict=True):
            if present:
                event[name] = value
    return events


def _features(features: Mapping[str, Column]) -> list[dict[str, Any]]:
    """`FeatureVector` of each event."""
    names = tuple(name for name in features if name not in CATEGORICAL_FEATURES)
    listed = _listed(names)
    numbers = np.array([features[name] for name in names], "<f8").T.tobytes()
    width = 8 * len(names)
    texts = {name: features[name].tolist() for name in CATEGORICAL_FEATURES}
    return [
        {
            "names": listed,
            "numbers": _base64(numbers[row * width : (row + 1) * width]),
            "texts": {name: values[row] for name, values in texts.items()},
        }
        for row in range(len(numbers) // width)
    ]


@lru_cache(maxsize=4)
def _listed(names: tuple[str, ...]) -> orjson.Fragment:
    return orjson.Fragment(orjson.dumps(names))


def graph_requests(tensors: Mapping[str, Column], sha12: str, n: int) -> list[dict[str, Any]]:
    """`GraphRequest` of each of n events, cut from what the graph model was asked about all.

    Args:
        tensors: of `Subgraph.tensors`: endpoints lie by event, and interactions with their neighbours by endpoint.
        sha12: the version whose embeddings are kept.
        n: number of events.
    """
    owner, target = tensors["endpoint_event"], tensors["edge_index"][1]
    ends = np.searchsorted(owner, np.arange(n + 1))
    bounds = {"endpoint": ends.tolist(), "neighbour": np.searchsorted(target, ends).tolist(), "event": range(n + 1)}
    kinds, met = tensors["endpoint_kind"].tolist(), tensors["neighbour_kind"].tolist()
    endpoint_of = (target - ends[owner[target]]).tolist()
    floats = [
        np.ascontiguousarray(tensors.get(f"{name}_{sha12}", tensors.get(name)), "<f4") for name, _ in GRAPH_FLOATS
    ]
    dims = [values.shape[1] if values.ndim > 1 else 0 for values in floats]
    parts = [
        (values.tobytes(), 4 * max(dim, 1), bounds[of])
        for values, dim, (_, of) in zip(floats, dims, GRAPH_FLOATS, strict=True)
    ]
    requests = []
    for row in range(n):
        a, b = bounds["endpoint"][row : row + 2]
        c, d = bounds["neighbour"][row : row + 2]
        cut = b"".join([content[width * at[row] : width * at[row + 1]] for content, width, at in parts])
        requests.append(
            {
                "endpoint_kind": kinds[a:b],
                "neighbour_kind": met[c:d],
                "edge_endpoint": endpoint_of[c:d],
                "dims": dims,
                "floats": _base64(cut),
            }
        )
    return requests


def _without_graph(tensors: Mapping[str, Column]) -> dict[str, Column]:
    """A request whose embeddings could not be read, as it was scored: by the events alone."""
    rest = {name: values for name, values in tensors.items() if name.startswith("event")}
    gone = {name: values[..., :0] if name == "edge_index" else values[:0] for name, values in tensors.items()}
    return gone | rest


def _base64(content: bytes) -> str:
    return b2a_base64(content, newline=False).decode()
