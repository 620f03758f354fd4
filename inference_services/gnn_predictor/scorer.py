"""Stage 2 in numpy: the sums of `FraudGnn.forward`, and the same bits for an event however it is asked about.

A product of float32 matrices depends in its last bits on how many rows there are, on the library and on the processor:
of events scored alone and among others, more than half differ. So the sums are float64, and the score is rounded to
float32 at the end. What order and fused steps change lies around the 16th digit, the rounding at the 7th: two ways to
the same sum would round apart once in some ten million scores. Thereby a decision can be made again on its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from feature_repo.graph_features import K_NEIGHBOURS
from feature_repo.pseudonyms import ENTITY_KINDS
from inference_services.gnn_predictor.network import FraudGnn

Floats = NDArray[np.float64]
Graph = Mapping[str, NDArray[Any]]
_KINDS = len(ENTITY_KINDS)
_CLIP = 6.0
_KIND = np.eye(_KINDS)
# Events scored at once: so many stay in the processor's cache, and more of them cost more each.
BLOCK = 16


class EventScorer:
    """The weights of a network's stage 2 as float64 arrays, [inputs, outputs] and contiguous.

    Equal to `FraudGnn.forward` but for float32's rounding on the way. A step of numpy's costs about 1 us against 10 of
    torch's.
    """

    def __init__(self, network: FraudGnn) -> None:
        """Copies the weights of `network`."""
        weights = {name: values.numpy().astype(np.float64) for name, values in network.state_dict().items()}
        node = weights["recent.query.weight"].shape[1]
        update = weights["recent.update_endpoint.weight"]
        first = weights["head.0.weight"]
        of_slots = _KINDS * network.config.hidden
        self._neighbour = _linear(weights["recent.neighbour.weight"]), weights["recent.neighbour.bias"].copy()
        self._edge = _linear(weights["recent.edge.weight"])
        self._query = _linear(weights["recent.query.weight"])
        self._own, self._own_bias = _linear(update[:, :node]), weights["recent.update_endpoint.bias"].copy()
        self._received = _linear(update[:, node:])
        self._mean, self._deviation = weights["event_scale.mean"].copy(), weights["event_scale.deviation"].copy()
        self._of_slots, self._of_event = _linear(first[:, :of_slots]), _linear(first[:, of_slots:])
        self._first_bias = weights["head.0.bias"].copy()
        self._second = _linear(weights["head.3.weight"]), weights["head.3.bias"].copy()
        self._last, self._last_bias = weights["head.5.weight"][0].copy(), weights["head.5.bias"][0]
        self._offset = network.config.logit_offset

    def __call__(self, graph: Graph) -> NDArray[np.float64]:
        """Returns the raw score (logit) of each event, [n], of the tensors of `EventGraph` by name."""
        blocks = [graph] if len(graph["event_features"]) <= BLOCK else _blocks(graph)
        return np.concatenate([self._logits(block) for block in blocks]).astype(np.float32).astype(np.float64)

    def _logits(self, graph: Graph) -> Floats:
        n = len(graph["event_features"])
        states = self._states(graph)
        slots = np.zeros((n * _KINDS, states.shape[1]))
        slots[graph["endpoint_event"] * _KINDS + graph["endpoint_kind"]] = states
        events = (graph["event_features"] - self._mean) / self._deviation
        np.minimum(np.maximum(events, -_CLIP, out=events), _CLIP, out=events)
        hidden = _relu(slots.reshape(n, -1) @ self._of_slots + events @ self._of_event + self._first_bias)
        weight, bias = self._second
        logits: Floats = _relu(hidden @ weight + bias) @ self._last + self._last_bias + self._offset
        return logits

    def _states(self, graph: Graph) -> Floats:
        """The endpoints' states, [E, hidden]."""
        endpoints = _entity(graph["endpoint_embedding"], graph["endpoint_known"], graph["endpoint_kind"])
        own = endpoints @ self._own + self._own_bias
        source, target = graph["edge_index"]
        if not len(target):
            return _relu(own)
        neighbours = _entity(graph["neighbour_embedding"], graph["neighbour_known"], graph["neighbour_kind"])
        weight, bias = self._neighbour
        edges = graph["edge_features"].astype(np.float64) @ self._edge
        change = target[1:] - target[:-1]
        if change.min(initial=0) < 0:
            # A transformer sends them by endpoint; others need not.
            order = np.argsort(target, kind="stable")
            source, target, edges = source[order], target[order], edges[order]
            change = target[1:] - target[:-1]
        messages = _relu((neighbours @ weight + bias)[source] + (endpoints @ self._query)[target] + edges)
        starts = np.concatenate([[0], np.flatnonzero(change) + 1])
        total = np.add.reduceat(messages, starts) / K_NEIGHBOURS
        received = np.concatenate([total, np.maximum.reduceat(messages, starts)], axis=1)
        own[target[starts]] += received @ self._received
        return _relu(own)


def _blocks(graph: Graph) -> Iterator[Graph]:
    """The events in their order, `BLOCK` at a time, each block with its part of the graph."""
    owner, (source, target) = graph["endpoint_event"], graph["edge_index"]
    n = len(graph["event_features"])
    endpoints = np.argsort(owner, kind="stable")
    place = np.empty_like(endpoints)
    place[endpoints] = np.arange(len(endpoints))
    edges = np.argsort(place[target], kind="stable")
    moved = place[target[edges]]
    rows = [*range(0, n, BLOCK), n]
    ends = np.searchsorted(owner[endpoints], rows)
    edge_ends = np.searchsorted(moved, ends)
    for i, (first, last) in enumerate(pairwise(rows)):
        mine, met = endpoints[ends[i] : ends[i + 1]], edges[edge_ends[i] : edge_ends[i + 1]]
        chosen = {"endpoint": mine, "neighbour": source[met], "edge": met, "event": slice(first, last)}
        block = {name: values[chosen[name.partition("_")[0]]] for name, values in graph.items() if name != "edge_index"}
        block["endpoint_event"] = block["endpoint_event"] - first
        block["edge_index"] = np.stack([np.arange(len(met)), moved[edge_ends[i] : edge_ends[i + 1]] - ends[i]])
        yield block


def _linear(weight: Floats) -> Floats:
    """A torch layer's weight [outputs, inputs] as what a row is multiplied with."""
    return np.ascontiguousarray(weight.T)


def _relu(values: Floats) -> Floats:
    positive: Floats = np.maximum(values, 0.0, out=values)
    return positive


def _entity(embedding: NDArray[np.float32], known: NDArray[np.float32], kind: NDArray[np.int64]) -> Floats:
    """Embedding (zeros where unknown), known flag, kind; [m, d + 1 + kinds]."""
    return np.concatenate([embedding * known[:, None], known[:, None], _KIND[kind]], axis=1)
