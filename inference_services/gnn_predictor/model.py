"""The V2 model `fraud-gnn`: event subgraphs in, calibrated scores out.

The tensors are those of `EventGraph`. Embeddings and known flags carry the content id of the weights that made them
(`endpoint_embedding_<sha12>`), so that a request made for two versions serves both, and each picks its own.
A row of NaN alone among them could not be read: its event is scored without its graph, see `missing_graph`.
`neighbour_influence` FP64 [M] and `endpoint_influence` FP64 [E] are computed when the request's `outputs` asks for one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from feature_repo.graph_features import EDGE_FEATURES, HEAD_FEATURES, K_NEIGHBOURS
from feature_repo.pseudonyms import ENTITY_KINDS
from inference_services.bundle import verify
from inference_services.calibration import FULL, NO_GRAPH, Vector, read_calibrations, sigmoid
from inference_services.errors import InvalidRequest
from inference_services.gnn_predictor.influence import INFLUENCES, influence
from inference_services.gnn_predictor.missing_graph import EMBEDDINGS, Bools, drop, spread, unread, without_graph
from inference_services.gnn_predictor.network import load_network
from inference_services.gnn_predictor.scorer import BLOCK, EventScorer
from inference_services.model_names import GNN
from inference_services.score_metrics import ScoreMetrics
from inference_services.served import Served
from inference_services.v2 import Array, Tensors, check_batch
from inference_services.v2_model import Outputs, V2Model

_KINDS = len(ENTITY_KINDS)
# A hop to a thread adds 0.25 ms, as much as a few events take; for 1,024 of them, 30 to 60 ms, the event loop must not
# stand still.
_INLINE_EDGES = BLOCK * _KINDS * K_NEIGHBOURS


class GnnPredictor(V2Model):
    """Serves one verified bundle. One thread per prediction: the graphs are small, and pods scale by replicas."""

    eager = True

    def __init__(self, name: str, folder: Path, revision: str = "") -> None:
        """Loads, verifies and warms the bundle in `folder`.

        Raises:
            BundleError: the bundle is not what its manifest says, or does not fit this code.
        """
        super().__init__(name)
        self._bundle = verify(folder, GNN)
        self.version = self._bundle.label
        self._network = load_network(folder)
        self._score = EventScorer(self._network)
        # A bundle from before events were masked in training has no calibration without the graph.
        self._calibrations = read_calibrations(self._bundle.read_json("calibration.json"), (FULL,), (NO_GRAPH,))
        self._revision = revision
        self._metrics = ScoreMetrics(Served.of(self, revision))
        self._score(_example(self._network.config.embedding_dim))
        self.ready = True

    async def answer(self, tensors: Tensors, wanted: Sequence[str]) -> Outputs:
        """Answers raw_score, log_odds and probability, FP64 [n], and the influences that are asked for.

        Raises:
            InvalidRequest: a tensor is missing, of another shape, or points outside of the graph; or an event has no
                graph and the bundle is of before that was trained for.
        """
        given = self._read(tensors)
        missing = without_graph(given)
        graph, kept = drop(given, missing) if missing.any() else (given, None)
        raw = self._score(graph) if _is_small(graph) else await asyncio.to_thread(self._score, graph)
        log_odds = self._log_odds(raw, missing)
        outputs: dict[str, Array] = {"raw_score": raw, "log_odds": log_odds, "probability": sigmoid(log_odds)}
        if not set(INFLUENCES).isdisjoint(wanted):
            found = await asyncio.to_thread(influence, self._score, graph, raw)
            outputs |= found if kept is None else spread(found, kept)
        return Outputs(outputs, self.version, {"revision": self._revision})

    def get_input_types(self) -> list[dict[str, Any]]:
        """The tensors of `EventGraph`, for V2 model metadata; embeddings are those of this version's weights."""
        config = self._network.config
        d, version = config.embedding_dim, self._bundle.sha12
        shapes = {
            "event_features": ("FP32", [-1, len(config.event_features)]),
            "endpoint_kind": ("INT64", [-1]),
            "endpoint_event": ("INT64", [-1]),
            f"endpoint_embedding_{version}": ("FP32", [-1, d]),
            f"endpoint_known_{version}": ("FP32", [-1]),
            "neighbour_kind": ("INT64", [-1]),
            f"neighbour_embedding_{version}": ("FP32", [-1, d]),
            f"neighbour_known_{version}": ("FP32", [-1]),
            "edge_index": ("INT64", [2, -1]),
            "edge_features": ("FP32", [-1, len(config.edge_features)]),
        }
        return [{"name": name, "datatype": kind, "shape": shape} for name, (kind, shape) in shapes.items()]

    def get_output_types(self) -> list[dict[str, Any]]:
        """The output tensors, for V2 model metadata."""
        names = ("raw_score", "log_odds", "probability", *INFLUENCES)
        return [{"name": name, "datatype": "FP64", "shape": [-1]} for name in names]

    def answered(self, outputs: Outputs) -> None:
        """Counts the scores."""
        self._metrics.observe(outputs)

    def _log_odds(self, raw: Vector, missing: Bools) -> Vector:
        log_odds = self._calibrations[FULL].log_odds(raw)
        if missing.any():
            if NO_GRAPH not in self._calibrations:
                raise InvalidRequest(
                    f"an event's embeddings are NaN, and {self._bundle.label} was not trained to score without them"
                )
            log_odds = np.where(missing, self._calibrations[NO_GRAPH].log_odds(raw), log_odds)
        return log_odds

    def _read(self, given: Tensors) -> dict[str, NDArray[Any]]:
        """The tensors as `EventGraph` names them, checked for shape and for what they point at."""
        config, version = self._network.config, self._bundle.sha12
        d = config.embedding_dim
        events = given.array("event_features", "FP32", (None, len(config.event_features)))
        check_batch("event_features", len(events))
        kind = given.vector("endpoint_kind", "INT64")
        neighbour_kind = given.vector("neighbour_kind", "INT64")
        e, m = len(kind), len(neighbour_kind)
        graph = {
            "event_features": events,
            "endpoint_kind": kind,
            "endpoint_event": given.vector("endpoint_event", "INT64", e),
            "endpoint_embedding": given.array(f"endpoint_embedding_{version}", "FP32", (e, d)),
            "endpoint_known": given.vector(f"endpoint_known_{version}", "FP32", e),
            "neighbour_kind": neighbour_kind,
            "neighbour_embedding": given.array(f"neighbour_embedding_{version}", "FP32", (m, d)),
            "neighbour_known": given.vector(f"neighbour_known_{version}", "FP32", m),
            "edge_index": given.array("edge_index", "INT64", (2, None)),
        }
        edges = graph["edge_index"].shape[1]
        graph["edge_features"] = given.array("edge_features", "FP32", (edges, len(config.edge_features)))
        _check_within("endpoint_kind", kind, _KINDS)
        _check_within("neighbour_kind", neighbour_kind, _KINDS)
        _check_within("endpoint_event", graph["endpoint_event"], len(events))
        _check_within("edge_index", graph["edge_index"][0], m)
        _check_within("edge_index", graph["edge_index"][1], e)
        _check_finite(graph)
        if len(np.unique(graph["endpoint_event"] * _KINDS + kind)) < e:
            raise InvalidRequest("field 'endpoint_kind' gives an event two endpoints of one kind")
        return graph


def _is_small(graph: dict[str, NDArray[Any]]) -> bool:
    return len(graph["event_features"]) <= BLOCK and graph["edge_index"].shape[1] <= _INLINE_EDGES


def _check_within(name: str, values: NDArray[np.int64], limit: int) -> None:
    wrong = np.flatnonzero((values < 0) | (values >= limit))
    if len(wrong):
        raise InvalidRequest(f"field {name!r} holds {values[wrong[0]]} at row {wrong[0]}; it must be 0 to {limit - 1}")


def _check_finite(graph: dict[str, NDArray[Any]]) -> None:
    for name, values in graph.items():
        finite = np.isfinite(values)
        if not finite.all() and not (name in EMBEDDINGS and (finite.all(1) | unread(values)).all()):
            raise InvalidRequest(f"field {name!r} holds a value that is not finite")


def _example(embedding_dim: int) -> dict[str, NDArray[Any]]:
    """A graph of one event with every endpoint and neighbour, to warm up on."""
    m = _KINDS * K_NEIGHBOURS
    return {
        "event_features": np.zeros((1, len(HEAD_FEATURES)), np.float32),
        "endpoint_kind": np.arange(_KINDS),
        "endpoint_event": np.zeros(_KINDS, np.int64),
        "endpoint_embedding": np.zeros((_KINDS, embedding_dim), np.float32),
        "endpoint_known": np.zeros(_KINDS, np.float32),
        "neighbour_kind": np.zeros(m, np.int64),
        "neighbour_embedding": np.zeros((m, embedding_dim), np.float32),
        "neighbour_known": np.zeros(m, np.float32),
        "edge_index": np.stack([np.arange(m), np.arange(m) // K_NEIGHBOURS]),
        "edge_features": np.zeros((m, len(EDGE_FEATURES)), np.float32),
    }
