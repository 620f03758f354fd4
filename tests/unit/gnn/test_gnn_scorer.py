"""Small requests are scored in numpy: the same answers as the network's, whatever the graph."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from components.train_gnn.logic import TrainedGnn
from inference_services.bundle import Bundle
from inference_services.gnn_predictor.model import GnnPredictor
from inference_services.gnn_predictor.network import EventGraph, FraudGnn
from inference_services.gnn_predictor.scorer import SmallScorer
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
    found = SmallScorer(trained.network)(graph)
    np.testing.assert_allclose(found, by_torch(trained.network, graph), rtol=1e-6, atol=1e-6, strict=True)
    for name, values in graph.items():
        np.testing.assert_array_equal(values, before[name], err_msg=name)


def test_any_small_graph_is_scored_as_the_network_does(trained: TrainedGnn) -> None:
    score, largest = SmallScorer(trained.network), 0.0
    for seed in range(100):
        graph = make_graph(1 + seed % 16, seed=seed)
        largest = max(largest, float(np.abs(score(graph) - by_torch(trained.network, graph)).max()))
    assert 0 < largest < 1e-6


def test_the_predictor_scores_up_to_a_chunk_in_numpy_and_more_in_torch(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, used = GnnPredictor("fraud-gnn", bundle.folder), []
    for name in ("_score_small", "_score_large"):
        plain = getattr(model, name)
        monkeypatch.setattr(model, name, lambda graph, n=name, f=plain: used.append(n) or f(graph))
    sixteen, seventeen = make_graph(16), make_graph(17)
    whole = model._score(seventeen)
    np.testing.assert_allclose(model._score(sixteen), by_torch(model._network, sixteen), rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(whole, by_torch(model._network, seventeen))
    assert used == ["_score_large", "_score_small"]
