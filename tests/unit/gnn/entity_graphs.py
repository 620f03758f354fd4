"""Random graphs of who met whom, for the tests of stage 1."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from inference_services.gnn_predictor.entity_layers import PAIR_FEATURES, RELATIONS, EntityGraph, entity_graph


class Edges(NamedTuple):
    """A graph before it is laid out: see `entity_graph`."""

    x: np.ndarray
    edge_index: np.ndarray
    relation: np.ndarray
    features: np.ndarray

    def laid_out(self) -> EntityGraph:
        return entity_graph(self.x, self.edge_index, self.relation, self.features)

    def renumbered(self, place: np.ndarray) -> Edges:
        """The same graph with entity i at `place[i]`."""
        x = np.empty_like(self.x)
        x[place] = self.x
        return in_order(Edges(x, place[self.edge_index], self.relation, self.features))


def in_order(edges: Edges) -> Edges:
    """Sorted by relation, target and source, as stage 1 takes them."""
    order = np.lexsort((edges.edge_index[0], edges.edge_index[1], edges.relation))
    return Edges(
        edges.x, np.ascontiguousarray(edges.edge_index[:, order]), edges.relation[order], edges.features[order]
    )


def random_edges(
    m: int = 30, columns: int = 5, *, edges: int = 120, without: int | None = None, seed: int = 0
) -> Edges:
    """m entities with `columns` features, in pairs that differ within a relation; none in the relation `without`."""
    rng = np.random.default_rng(seed)
    pairs = np.unique(np.column_stack([rng.integers(0, len(RELATIONS), edges), rng.integers(0, m, (edges, 2))]), axis=0)
    pairs = pairs[pairs[:, 0] != without]
    features = rng.exponential(1.0, (len(pairs), len(PAIR_FEATURES))).astype(np.float32) + 0.1
    x = rng.normal(0, 1, (m, columns)).astype(np.float32)
    return in_order(Edges(x, pairs[:, 1:].T, pairs[:, 0], features))
