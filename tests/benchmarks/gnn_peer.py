"""The graph as PyG's message passing takes it: each relation by its COO edge index and the weights of its edges."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from components.train_gnn.entity_graph import Snapshot
from inference_services.gnn_predictor.entity_layers import PAIR_FEATURES, RELATIONS, EntityGraph

_EVENTS, _LAST = PAIR_FEATURES.index("log_events"), PAIR_FEATURES.index("log_days_since_last")


class CooGraph(NamedTuple):
    """A snapshot for message passing; edges in the order of their relations.

    Attributes:
        x: [m, fn].
        edge_means: [m, EDGE_MEANS].
        edge_index: [2, e], source and target.
        cuts: where the edges of each relation begin, and the end of the last.
        plain: weight of each edge in the plain mean, [e].
        recent: weight of each edge in the mean by how often and how lately, [e].
    """

    x: Tensor
    edge_means: Tensor
    edge_index: Tensor
    cuts: list[int]
    plain: Tensor
    recent: Tensor

    @classmethod
    def of(cls, snapshot: Snapshot) -> CooGraph:
        """Weighs the edges of a snapshot, sum by sum as `entity_graph` does."""
        m = len(snapshot.x)
        cuts = np.searchsorted(snapshot.relation, np.arange(len(RELATIONS) + 1)).tolist()
        plain, recent, means = [], [], []
        for first, end in pairwise(cuts):
            target, features = snapshot.edge_index[1, first:end], snapshot.edge_features[first:end]
            degree = np.bincount(target, minlength=m)
            share = np.maximum(degree, 1)
            weight = features[:, _EVENTS] * np.exp(-features[:, _LAST].astype(np.float64))
            total = np.maximum(np.bincount(target, weight, minlength=m), 1e-9)
            plain.append(1.0 / share[target])
            recent.append(weight / total[target])
            means += [np.bincount(target, column, minlength=m) / share for column in features.T]
            means.append(np.log1p(degree))
        return cls(
            torch.from_numpy(snapshot.x),
            torch.from_numpy(np.column_stack(means).astype(np.float32)),
            torch.from_numpy(snapshot.edge_index),
            cuts,
            *(torch.from_numpy(np.concatenate(weights).astype(np.float32)) for weights in (plain, recent)),
        )

    def part(self, nodes: Tensor, edge_index: Tensor, edges: Tensor) -> CooGraph:
        """The graph of these nodes with the weights of the whole graph.

        Args:
            nodes: the nodes that are kept, [k].
            edge_index: the edges that are kept, by their place among `nodes`, [2, j].
            edges: which edges those are, bool [e].
        """
        kept = torch.cat([torch.zeros(1, dtype=torch.int64), edges.cumsum(0)])
        cuts = kept[torch.tensor(self.cuts)].tolist()
        return CooGraph(self.x[nodes], self.edge_means[nodes], edge_index, cuts, self.plain[edges], self.recent[edges])

    def graph(self) -> EntityGraph:
        """As stage 1 reads it: pairs of edge index and weights in the place of sparse matrices."""
        relations = list(pairwise(self.cuts))
        plain, recent = (
            tuple((self.edge_index[:, a:b], weight[a:b]) for a, b in relations) for weight in (self.plain, self.recent)
        )
        # `WeightedSum` takes either; an `EntityGraph` of the application holds the faster one only.
        return EntityGraph(self.x, self.edge_means, plain, recent)  # type: ignore[arg-type]
