"""Stage 1's sparse products against the same sums written out, and what holds of any graph."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from inference_services.gnn_predictor.entity_layers import PAIR_FEATURES, RELATIONS, RelationalLayer, WeightedSum
from inference_services.gnn_predictor.network import FraudGnn, GnnConfig
from tests.unit.gnn.entity_graphs import Edges, random_edges


@pytest.fixture(scope="module")
def network() -> FraudGnn:
    torch.manual_seed(0)
    return FraudGnn(GnnConfig(node_features=tuple("abcde"), hidden=8)).eval()


def as_coo(edges: Edges, relation: int, *, recent: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """The relation as PyG has it: edge_index and the weights of the mean, summed edge by edge in double precision."""
    mine = edges.relation == relation
    source, target = edges.edge_index[:, mine]
    log_events, log_days = edges.features[mine][:, 0].astype(float), edges.features[mine][:, 1].astype(float)
    raw = log_events / np.exp(log_days) if recent else np.ones(len(target))
    weight = [w / raw[target == t].sum() for w, t in zip(raw, target, strict=True)]
    return torch.from_numpy(np.stack([source, target])), torch.tensor(weight, dtype=torch.float32)


@pytest.mark.parametrize("recent", [False, True])
@pytest.mark.parametrize("edges", [random_edges(), random_edges(without=2, seed=1), random_edges(edges=0)])
def test_the_sparse_product_and_its_gradient_equal_the_sum_over_edges(edges: Edges, recent: bool) -> None:
    graph, total = edges.laid_out(), WeightedSum()
    for relation in range(len(RELATIONS)):
        results = []
        for given in ((graph.recent if recent else graph.plain)[relation], as_coo(edges, relation, recent=recent)):
            x = torch.from_numpy(edges.x).requires_grad_()
            summed = total(x, given)
            (summed * torch.arange(summed.numel()).view_as(summed)).sum().backward()
            results.append((summed.detach(), x.grad))
        for ours, theirs in zip(*results, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)


def test_a_layer_is_what_its_formula_says(network: FraudGnn) -> None:
    edges = random_edges()
    layer, graph = network.first, edges.laid_out()
    x = torch.from_numpy(edges.x)
    expected = layer.own(x) + layer.edges(graph.edge_means)
    for layers, recent in ((layer.plain, False), (layer.recent, True)):
        for relation, linear in enumerate(layers):
            index, weight = as_coo(edges, relation, recent=recent)
            for (source, target), share in zip(index.T.tolist(), weight, strict=True):
                expected[target] = expected[target] + share * linear(x[source])
    torch.testing.assert_close(layer(x, graph.edge_means, graph), expected, rtol=1e-5, atol=1e-5)


def test_the_edge_means_are_those_of_an_entity_s_edges_and_how_many_there_are() -> None:
    edges = random_edges()
    means = edges.laid_out().edge_means.numpy().reshape(len(edges.x), len(RELATIONS), -1)
    for entity in range(len(edges.x)):
        for relation in range(len(RELATIONS)):
            mine = edges.features[(edges.relation == relation) & (edges.edge_index[1] == entity)]
            mean = mine.mean(0) if len(mine) else np.zeros(edges.features.shape[1])
            np.testing.assert_allclose(means[entity, relation], [*mean, np.log1p(len(mine))], rtol=1e-5)


def test_renumbering_the_entities_renumbers_their_embeddings(network: FraudGnn) -> None:
    edges = random_edges(seed=3)
    place = np.random.default_rng(0).permutation(len(edges.x))
    with torch.no_grad():
        ours, renumbered = (network.encode(e.laid_out()) for e in (edges, edges.renumbered(place)))
    torch.testing.assert_close(renumbered[torch.from_numpy(place)], ours, rtol=0, atol=1e-6)
    assert ours.std(0).min() > 1e-3


def test_an_entity_that_met_nobody_has_an_embedding_and_leaves_the_others_as_they_are(network: FraudGnn) -> None:
    edges = random_edges()
    alone = edges._replace(x=np.concatenate([edges.x, np.zeros((1, edges.x.shape[1]), np.float32)]))
    with torch.no_grad():
        without, together = network.encode(edges.laid_out()), network.encode(alone.laid_out())
    torch.testing.assert_close(together[:-1], without, rtol=0, atol=1e-6)
    assert torch.isfinite(together[-1]).all()
    assert together[-1].abs().max() <= 1


@pytest.mark.parametrize("m", [0, 1, 4])
def test_a_graph_without_edges_is_embedded_and_has_gradients(network: FraudGnn, m: int) -> None:
    none, no_features = np.zeros((2, 0), np.int64), np.zeros((0, len(PAIR_FEATURES)), np.float32)
    graph = Edges(np.ones((m, 5), np.float32), none, none[0], no_features).laid_out()
    embedding = network.encode(graph)
    assert embedding.shape == (m, network.config.embedding_dim)
    assert torch.isfinite(embedding).all()
    network.zero_grad()
    embedding.sum().backward()
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in network.parameters())


def test_a_relation_is_told_from_another() -> None:
    torch.manual_seed(0)
    layer, edges = RelationalLayer(5, 3), random_edges(seed=4)
    moved = edges._replace(relation=np.roll(np.arange(len(RELATIONS)), 1)[edges.relation])
    order = np.argsort(moved.relation, kind="stable")
    moved = Edges(moved.x, moved.edge_index[:, order], moved.relation[order], moved.features[order])
    x = torch.from_numpy(edges.x)
    with torch.no_grad():
        one, other = (layer(x, e.laid_out().edge_means, e.laid_out()) for e in (edges, moved))
    assert (one - other).abs().max() > 0.1


def test_embeddings_are_the_same_with_and_without_gradients(network: FraudGnn) -> None:
    graph = random_edges(200, edges=3000, seed=6).laid_out()
    trained = network.encode(graph).detach()
    with torch.no_grad():
        torch.testing.assert_close(network.encode(graph), trained, rtol=0, atol=1e-6)
        # Nothing of the first pass is left behind.
        torch.testing.assert_close(network.encode(graph), trained, rtol=0, atol=1e-6)
