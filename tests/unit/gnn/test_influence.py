"""Leave-one-out influence equals what leaving out by hand gives, through the predictor that serves it."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from kserve import InferRequest
from kserve.protocol.infer_type import RequestedOutput

from feature_repo.graph_features import EDGE_FEATURES, HEAD_FEATURES, K_NEIGHBOURS
from feature_repo.pseudonyms import ENTITY_KINDS
from feature_repo.settings import EMBEDDING_DIM
from inference_services.bundle import Bundle
from inference_services.errors import InvalidRequest
from inference_services.gnn_predictor import influence as module
from inference_services.gnn_predictor.influence import INFLUENCES, influence
from inference_services.gnn_predictor.model import GnnPredictor
from inference_services.graph_parts import ENDPOINT_INFLUENCE, NEIGHBOUR_INFLUENCE, take_events
from tests.unit.gnn.test_gnn_predictor import request

Graph = dict[str, np.ndarray]


def make_graph(events: int = 4, seed: int = 0, interactions: int = K_NEIGHBOURS) -> Graph:
    """Events with one to four endpoints of 0 to `interactions` interactions each."""
    rng = np.random.default_rng(seed)
    kinds = [k for _ in range(events) for k in range(len(ENTITY_KINDS))]
    keep = (rng.random(len(kinds)) < 0.8) | (np.array(kinds) == 0)
    endpoint_event = np.repeat(np.arange(events), len(ENTITY_KINDS))[keep]
    e = len(endpoint_event)
    target = np.repeat(np.arange(e), rng.integers(0, interactions + 1, e))
    m = len(target)
    return {
        "event_features": rng.normal(0, 1, (events, len(HEAD_FEATURES))).astype(np.float32),
        "endpoint_kind": np.array(kinds)[keep],
        "endpoint_event": endpoint_event,
        "endpoint_embedding": rng.normal(0, 1, (e, EMBEDDING_DIM)).astype(np.float32),
        "endpoint_known": (rng.random(e) < 0.7).astype(np.float32),
        "neighbour_kind": rng.integers(0, len(ENTITY_KINDS), m),
        "neighbour_embedding": rng.normal(0, 1, (m, EMBEDDING_DIM)).astype(np.float32),
        "neighbour_known": (rng.random(m) < 0.7).astype(np.float32),
        "edge_index": np.stack([np.arange(m), target]),
        "edge_features": rng.normal(0, 1, (m, len(EDGE_FEATURES))).astype(np.float32),
    }


def without(graph: Graph, edges: np.ndarray) -> Graph:
    """By hand: the whole batch without the interactions where `edges` is False; endpoints stay."""
    past = {"edge_features", *(name for name in graph if name.startswith("neighbour"))}
    left = {name: values[edges] if name in past else values for name, values in graph.items()}
    left["edge_index"] = np.stack([np.arange(edges.sum()), graph["edge_index"][1][edges]])
    return left


def as_request(graph: Graph, bundle: Bundle, *outputs: str) -> InferRequest:
    versioned = {
        f"{name}_{bundle.sha12}" if name.endswith(("_embedding", "_known")) else name: values
        for name, values in graph.items()
    }
    asked = request(versioned)
    asked.request_outputs = [RequestedOutput(name) for name in outputs] or None
    return asked


@pytest.fixture(scope="module")
def model(bundle: Bundle) -> GnnPredictor:
    return GnnPredictor("fraud-gnn", bundle.folder)


def served(model: GnnPredictor, bundle: Bundle, graph: Graph, *outputs: str) -> dict[str, np.ndarray]:
    response = asyncio.run(model.predict(as_request(graph, bundle, *outputs)))
    return {output.name: output.as_numpy() for output in response.outputs}


def test_influence_equals_leaving_out_by_hand(model: GnnPredictor, bundle: Bundle) -> None:
    graph = make_graph()
    found = served(model, bundle, graph, *INFLUENCES)
    whole = model._score(graph)
    target = graph["edge_index"][1]
    of_edge = graph["endpoint_event"][target]
    m, e = len(target), len(graph["endpoint_event"])
    assert (found[NEIGHBOUR_INFLUENCE].shape, found[ENDPOINT_INFLUENCE].shape) == ((m,), (e,))
    for edge in range(m):
        left = model._score(without(graph, np.arange(m) != edge))
        expected = whole - left
        assert found[NEIGHBOUR_INFLUENCE][edge] == pytest.approx(expected[of_edge[edge]], abs=1e-5)
        np.testing.assert_allclose(np.delete(expected, of_edge[edge]), 0, atol=1e-5)
    for row in range(e):
        left = model._score(without(graph, target != row))
        event = graph["endpoint_event"][row]
        assert found[ENDPOINT_INFLUENCE][row] == pytest.approx((whole - left)[event], abs=1e-5)
    assert np.abs(found[NEIGHBOUR_INFLUENCE]).max() > 1e-3
    idle = ~np.isin(np.arange(e), target)
    assert idle.any()
    assert not found[ENDPOINT_INFLUENCE][idle].any()


def test_all_parts_are_scored_in_one_batch(model: GnnPredictor) -> None:
    graph = make_graph(16, interactions=K_NEIGHBOURS)
    calls = []

    def score(part: Graph) -> np.ndarray:
        calls.append(len(part["event_features"]))
        return model._score(part)

    influence(score, graph, model._score(graph))
    histories = len(np.unique(graph["edge_index"][1]))
    assert calls == [graph["edge_index"].shape[1] + histories]


def test_very_many_interactions_are_scored_in_several_batches_to_the_same_end(
    model: GnnPredictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = make_graph(8)
    raw = model._score(graph)
    at_once = influence(model._score, graph, raw)
    monkeypatch.setattr(module, "_MOST_ROWS", 100)
    calls = []
    in_parts = influence(lambda part: calls.append(1) or model._score(part), graph, raw)
    assert len(calls) > 2
    for name in INFLUENCES:
        np.testing.assert_allclose(in_parts[name], at_once[name], atol=1e-5)


def test_it_costs_nothing_when_not_asked_for(
    model: GnnPredictor, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    score = model._score
    monkeypatch.setattr(model, "_score", lambda graph: calls.append(1) or score(graph))
    assert set(served(model, bundle, make_graph(2))) == {"raw_score", "log_odds", "probability"}
    assert len(calls) == 1
    assert set(served(model, bundle, make_graph(2), ENDPOINT_INFLUENCE)) == {ENDPOINT_INFLUENCE}


def test_events_without_a_past_have_no_influence(model: GnnPredictor, bundle: Bundle) -> None:
    graph = make_graph(2)
    alone = without(graph, np.zeros(graph["edge_index"].shape[1], np.bool_))
    found = served(model, bundle, alone, *INFLUENCES)
    assert found[NEIGHBOUR_INFLUENCE].shape == (0,)
    assert not found[ENDPOINT_INFLUENCE].any()


def test_more_interactions_than_a_transformer_sends_are_refused(model: GnnPredictor, bundle: Bundle) -> None:
    graph = make_graph(1, interactions=40, seed=2)
    count = graph["edge_index"].shape[1]
    assert count > 32
    with pytest.raises(InvalidRequest, match=f"'edge_index' gives event 0 {count} interactions"):
        served(model, bundle, graph, NEIGHBOUR_INFLUENCE)


def test_taken_events_score_as_they_do_in_their_batch(model: GnnPredictor) -> None:
    graph = make_graph(6, seed=1)
    rng = np.random.default_rng(5)
    # Neither endpoints nor interactions need lie in the order of their events, nor have neighbours of their own.
    order = rng.permutation(len(graph["endpoint_event"]))
    shuffled = {n: v[order] if n.startswith("endpoint") else v for n, v in graph.items()}
    edges = rng.permutation(graph["edge_index"].shape[1])
    source, target = graph["edge_index"][:, edges]
    shuffled["edge_index"] = np.stack([source, np.argsort(order)[target]])
    shuffled["edge_features"] = graph["edge_features"][edges]
    whole = model._score(graph)
    np.testing.assert_allclose(model._score(shuffled), whole, atol=1e-5)
    events = np.array([4, 1, 1, 5])
    np.testing.assert_allclose(model._score(take_events(shuffled, events)), whole[events], atol=1e-5)
