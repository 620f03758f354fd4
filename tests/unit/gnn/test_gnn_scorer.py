"""The predictor scores in numpy: as the network does, and each event to the same bits whoever it comes with."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from components.train_gnn.logic import TrainedGnn
from inference_services.gnn_predictor.network import EventGraph, FraudGnn
from inference_services.gnn_predictor.scorer import BLOCK, EventScorer
from inference_services.graph_parts import take_events
from tests.unit.gnn.test_influence import Graph, make_graph, without


def by_torch(network: FraudGnn, graph: Graph) -> np.ndarray:
    with torch.no_grad():
        return network(EventGraph(**{n: torch.from_numpy(v) for n, v in graph.items()})).double().numpy()


def of_strangers() -> Graph:
    graph = make_graph(5, seed=3)
    return {n: np.zeros_like(v) if n.endswith("_known") else v for n, v in graph.items()}


def without_a_past() -> Graph:
    graph = make_graph(3, seed=4)
    return without(graph, np.zeros(graph["edge_index"].shape[1], np.bool_))


def in_any_order() -> Graph:
    """Interactions of any order, of neighbours that several share, some of none."""
    graph, rng = make_graph(6, seed=5), np.random.default_rng(5)
    source, target = graph["edge_index"]
    order = rng.permutation(len(target))
    return {**graph, "edge_index": np.stack([rng.integers(0, len(source), len(source)), target[order]])}


def far_outside() -> Graph:
    graph = make_graph(4, seed=6)
    return {n: v * np.float32(1e4) if n in {"event_features", "edge_features"} else v for n, v in graph.items()}


def of_nobody() -> Graph:
    """An event without any entity: no transformer sends it, but it may be sent."""
    graph = without_a_past()
    return {n: v if n in {"event_features", "edge_features", "edge_index"} else v[:0] for n, v in graph.items()}


GRAPHS = {
    "one event": lambda: make_graph(1),
    "sixteen events": lambda: make_graph(16, seed=1),
    "most interactions": lambda: make_graph(16, seed=2, interactions=8),
    "nobody is known": of_strangers,
    "no interactions": without_a_past,
    "any order": in_any_order,
    "far outside": far_outside,
    "no entities": of_nobody,
}


@pytest.mark.parametrize("case", GRAPHS)
def test_it_scores_as_the_network_does(case: str, trained: TrainedGnn) -> None:
    graph = GRAPHS[case]()
    before = {name: values.copy() for name, values in graph.items()}
    found = EventScorer(trained.network)(graph)
    np.testing.assert_allclose(found, by_torch(trained.network, graph), rtol=1e-6, atol=1e-6, strict=True)
    for name, values in graph.items():
        np.testing.assert_array_equal(values, before[name], err_msg=name)


def test_any_graph_is_scored_as_the_network_does(trained: TrainedGnn) -> None:
    score, largest = EventScorer(trained.network), 0.0
    for seed in range(100):
        graph = make_graph(1 + seed % (3 * BLOCK), seed=seed)
        largest = max(largest, float(np.abs(score(graph) - by_torch(trained.network, graph)).max()))
    assert 0 < largest < 1e-6


def shuffled(graph: Graph, seed: int) -> Graph:
    """The same events with their endpoints and interactions in another order."""
    rng = np.random.default_rng(seed)
    source, target = graph["edge_index"]
    endpoints, edges = rng.permutation(len(graph["endpoint_event"])), rng.permutation(len(target))
    rows = {"endpoint": endpoints, "edge": edges, "neighbour": np.arange(len(source)), "event": slice(None)}
    mixed = {n: v[rows[n.partition("_")[0]]] for n, v in graph.items() if n != "edge_index"}
    return {**mixed, "edge_index": np.stack([source[edges], np.argsort(endpoints)[target[edges]]])}


@pytest.mark.parametrize("n", [2, BLOCK, BLOCK + 1, 1024])
def test_an_event_has_the_same_bits_alone_and_among_others(n: int, trained: TrainedGnn) -> None:
    score, graph = EventScorer(trained.network), make_graph(n, seed=n)
    together = score(graph)
    alone = np.concatenate([score(take_events(graph, np.array([row]))) for row in range(n)])
    np.testing.assert_array_equal(together, alone)
    np.testing.assert_array_equal(together, score(shuffled(graph, n)))
    assert len(np.unique(together)) > 0.9 * n


def test_one_event_without_entities_among_many_is_scored_too(trained: TrainedGnn) -> None:
    graph = make_graph(3 * BLOCK, seed=7)
    keep = graph["endpoint_event"] != BLOCK
    kept = {n: v[keep] if n.startswith("endpoint") else v for n, v in graph.items()}
    edges = keep[graph["edge_index"][1]]
    past = {"edge_features", *(name for name in graph if name.startswith("neighbour"))}
    kept = {n: v[edges] if n in past else v for n, v in kept.items()}
    target = (np.cumsum(keep) - 1)[graph["edge_index"][1][edges]]
    kept["edge_index"] = np.stack([np.arange(len(target)), target])
    found = EventScorer(trained.network)(kept)
    np.testing.assert_allclose(found, by_torch(trained.network, kept), rtol=1e-6, atol=1e-6)
    others = np.arange(3 * BLOCK) != BLOCK
    np.testing.assert_array_equal(found[others], EventScorer(trained.network)(graph)[others])
