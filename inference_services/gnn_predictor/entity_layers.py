"""Stage 1: relational layers over the graph of who met whom, as sparse products.

A layer has weights of its own for each relation (Schlichtkrull et al. 2018, R-GCN) and takes two means over an
entity's counterparts: the plain one, and one in which frequent and recent counterparts weigh more.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch_geometric.nn import MessagePassing
from torch_geometric.utils import spmm

from feature_repo.pseudonyms import ENTITY_KINDS

# What passes along an edge, from the first to the second; both directions of every pair with a rider.
RELATIONS: tuple[tuple[str, str], ...] = tuple(
    pair for other in ENTITY_KINDS[1:] for pair in ((ENTITY_KINDS[0], other), (other, ENTITY_KINDS[0]))
)
PAIR_FEATURES: tuple[str, ...] = ("log_events", "log_days_since_last", "log_days_since_first", "log_mean_amount")
_LAST, _EVENTS = PAIR_FEATURES.index("log_days_since_last"), PAIR_FEATURES.index("log_events")
# For each relation the mean of each pair feature over the edges, and how many edges there are.
EDGE_MEANS = len(RELATIONS) * (len(PAIR_FEATURES) + 1)


@dataclass(frozen=True, eq=False)
class Adjacency:
    """One weighting of one relation: rows are targets, columns are sources.

    Attributes:
        forward: sparse CSR [m, m].
    """

    forward: Tensor

    @cached_property
    def backward(self) -> Tensor:
        """The transpose, which the gradient needs; made when the first one is taken."""
        m = self.forward.shape[0]
        starts, column = self.forward.crow_indices().numpy(), self.forward.col_indices().numpy()
        row = np.repeat(np.arange(m), np.diff(starts))
        order = np.argsort(column, kind="stable")
        values = self.forward.values().numpy()[order]
        return _csr(_starts(np.bincount(column, minlength=m)), row[order].astype(np.int32), values)


class EntityGraph(NamedTuple):
    """The graph of m entities as stage 1 reads it.

    Attributes:
        x: float32 [m, fn].
        edge_means: float32 [m, EDGE_MEANS]. The edges' part of a message is linear, so its mean over the edges is that
            of the mean features, which is taken once.
        plain: the weights 1 / degree, by relation.
        recent: weights in proportion to log(1 + events) / (1 + days since the last), by relation.
    """

    x: Tensor
    edge_means: Tensor
    plain: tuple[Adjacency, ...]
    recent: tuple[Adjacency, ...]


def entity_graph(
    x: NDArray[np.float32],
    edge_index: NDArray[np.int64],
    relation: NDArray[np.int64],
    edge_features: NDArray[np.float32],
) -> EntityGraph:
    """Lays out a graph for `EntityEncoder`.

    Args:
        x: node features, [m, fn].
        edge_index: source and target of each edge, sorted by relation, target and source, [2, e].
        relation: position in `RELATIONS`, [e].
        edge_features: `PAIR_FEATURES`, [e, 4].
    """
    m = len(x)
    cuts = np.searchsorted(relation, np.arange(len(RELATIONS) + 1))
    plain, recent, means = [], [], []
    for first, end in pairwise(cuts.tolist()):
        source, target = edge_index[:, first:end]
        features = edge_features[first:end]
        degree = np.bincount(target, minlength=m)
        share = np.maximum(degree, 1)
        weight = features[:, _EVENTS] * np.exp(-features[:, _LAST].astype(np.float64))
        total = np.maximum(np.bincount(target, weight, minlength=m), 1e-9)
        starts, column = _starts(degree), source.astype(np.int32)
        plain.append(Adjacency(_csr(starts, column, 1.0 / share[target])))
        recent.append(Adjacency(_csr(starts, column, weight / total[target])))
        means += [np.bincount(target, column, minlength=m) / share for column in features.T]
        means.append(np.log1p(degree))
    edge_means = torch.from_numpy(np.column_stack(means).astype(np.float32))
    return EntityGraph(torch.from_numpy(x), edge_means, tuple(plain), tuple(recent))


def _starts(counts: NDArray[np.int64]) -> NDArray[np.int32]:
    """Where each of m rows begins, and the end of the last, [m + 1], of how many entries they have."""
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)


def _csr(starts: NDArray[np.int32], column: NDArray[np.int32], weight: NDArray[np.floating[Any]]) -> Tensor:
    """A square sparse matrix whose entries are sorted by row."""
    m = len(starts) - 1
    return torch.sparse_csr_tensor(
        torch.from_numpy(starts),
        torch.from_numpy(column),
        torch.from_numpy(weight.astype(np.float32)),
        size=(m, m),
        check_invariants=False,
    )


class _Product(torch.autograd.Function):
    """Sparse times dense, whose gradient uses a transpose that is made once."""

    @staticmethod
    def forward(ctx: Any, adjacency: Adjacency, dense: Tensor) -> Tensor:
        ctx.adjacency = adjacency
        product: Tensor = spmm(adjacency.forward, dense)
        return product

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, Tensor]:
        return None, spmm(ctx.adjacency.backward, gradient)


class WeightedSum(MessagePassing):
    """Sums the sources' states by the weights of the edges; of an `Adjacency` as one sparse product."""

    def __init__(self) -> None:
        super().__init__(aggr="sum")

    def forward(self, x: Tensor, edges: Adjacency | tuple[Tensor, Tensor]) -> Tensor:
        """Returns [m, d] of x [m, d] and an adjacency, or edge_index [2, e] with weights [e]."""
        if isinstance(edges, Adjacency):
            product: Tensor = _Product.apply(edges, x)  # type: ignore[no-untyped-call]
            return product
        edge_index, weight = edges
        summed: Tensor = self.propagate(edge_index, x=x, weight=weight, size=(len(x), len(x)))
        return summed

    def message(self, x_j: Tensor, weight: Tensor) -> Tensor:
        """The weighted state along each edge, [e, d]."""
        return x_j * weight[:, None]


class RelationalLayer(nn.Module):
    """h_i' = W h_i + W_e e_i + sum over relations r of (W_r mean_j h_j + V_r recent mean_j h_j)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.own = nn.Linear(inputs, outputs)
        self.edges = nn.Linear(EDGE_MEANS, outputs, bias=False)
        self.plain = nn.ModuleList(nn.Linear(inputs, outputs, bias=False) for _ in RELATIONS)
        self.recent = nn.ModuleList(nn.Linear(inputs, outputs, bias=False) for _ in RELATIONS)
        self.sum = WeightedSum()

    def forward(self, h: Tensor, edge_means: Tensor, graph: EntityGraph) -> Tensor:
        """Returns the entities' next states, [m, outputs], of h [m, inputs] and the scaled edge means."""
        result: Tensor = self.own(h) + self.edges(edge_means)
        for layers, adjacency in ((self.plain, graph.plain), (self.recent, graph.recent)):
            for layer, relation in zip(layers, adjacency, strict=True):
                result = self._plus(result, layer(h), relation)
        return result

    def _plus(self, result: Tensor, x: Tensor, relation: Adjacency | tuple[Tensor, Tensor]) -> Tensor:
        """`result` and the weighted sums of x; in place where no gradient is asked for."""
        if torch.is_grad_enabled() or not isinstance(relation, Adjacency):
            summed: Tensor = self.sum(x, relation)
            return result + summed
        # A product of its own is filled with zeros, copied and added: half of the time of an encoding.
        result.addmm_(relation.forward, x)
        return result
