"""What the network saw, or would have seen: scores events with the snapshot of the day before they arrived."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from components.train_gnn.entity_graph import DAY_US, EntityLog, Ints, Snapshot
from feature_repo.event_schemas import EVENT_TYPES, SCORED_EVENT_TYPES
from feature_repo.graph_features import K_NEIGHBOURS, co_occurrence, edge_features
from feature_repo.pseudonyms import ENTITY_KINDS
from inference_services.gnn_predictor.network import EventGraph, FraudGnn

_SCORED_CODES = [EVENT_TYPES.index(t) for t in SCORED_EVENT_TYPES]


@contextmanager
def one_thread() -> Iterator[None]:
    """Runs torch on one thread: equal sums on every machine, and scatter with a maximum is ten times slower on two."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def encode(network: FraudGnn, snapshot: Snapshot) -> Tensor:
    """Stage 1 on a snapshot: float32 [m, d]."""
    return network.encode(snapshot.graph())


@dataclass(frozen=True)
class Layout:
    """Stage 2's input but for the embeddings, which change with every step of a training.

    Attributes:
        graph: the tensors; the embeddings and known flags are those of no entity.
        endpoint: rows of the snapshot, its length where it does not have the entity, int64 [E].
        neighbour: likewise, int64 [M].
    """

    graph: EventGraph
    endpoint: Tensor
    neighbour: Tensor

    @classmethod
    def of(cls, log: EntityLog, rows: Ints, nodes: Ints, masked: NDArray[np.bool_] | None = None) -> Layout:
        """The events at `rows`, under the snapshot that has these nodes; a masked one ([n]) has no endpoints."""
        position = np.full(len(log.kind), len(nodes))
        position[nodes] = np.arange(len(nodes))
        exists = log.entities[rows] >= 0
        event, kind = np.nonzero(exists if masked is None else exists & ~masked[:, None])
        counts = log.history_counts[rows[event], kind]
        target, back = np.nonzero(np.arange(K_NEIGHBOURS) < counts[:, None])
        of_event, of_kind = event[target], kind[target]
        of_row = rows[of_event]
        interactions = log.history[of_row, of_kind, back]
        together = co_occurrence(
            log.history_entities[rows],
            np.arange(K_NEIGHBOURS) < log.history_counts[rows][:, :, None],
            log.entities[rows],
            exists,
        )[of_event, of_kind, back]
        nothing = torch.zeros(0)
        graph = EventGraph(
            endpoint_kind=torch.from_numpy(kind),
            endpoint_event=torch.from_numpy(event),
            endpoint_embedding=nothing,
            endpoint_known=nothing,
            neighbour_kind=torch.from_numpy(interactions["kind"].astype(np.int64)),
            neighbour_embedding=nothing,
            neighbour_known=nothing,
            edge_index=torch.from_numpy(np.stack([np.arange(len(target)), target])),
            edge_features=torch.from_numpy(edge_features(interactions, log.event_us[of_row], together)),
            event_features=torch.from_numpy(log.features[rows]),
        )
        met = log.history_entities[of_row, of_kind, back]
        return cls(
            graph,
            endpoint=torch.from_numpy(position[log.entities[rows[event], kind]]),
            neighbour=torch.from_numpy(position[met]),
        )

    def embedded(self, embedding: Tensor) -> EventGraph:
        """The whole input, under the snapshot's embeddings ([m, d], gradients kept)."""
        last = len(embedding)
        # The row after the last is the embedding of an entity that the snapshot does not have.
        table = torch.cat([embedding, embedding.new_zeros(1, embedding.shape[1])])
        return self.graph._replace(
            endpoint_embedding=table[self.endpoint],
            endpoint_known=(self.endpoint < last).float(),
            neighbour_embedding=table[self.neighbour],
            neighbour_known=(self.neighbour < last).float(),
        )


def event_graph(log: EntityLog, rows: Ints, snapshot: Snapshot, embedding: Tensor) -> EventGraph:
    """Stage 2's input for the events at `rows`, which see `snapshot`'s embeddings ([m, d], gradients kept)."""
    return Layout.of(log, rows, snapshot.nodes).embedded(embedding)


def scored_rows(log: EntityLog, days: Iterable[int]) -> dict[int, Ints]:
    """The rows of the scored events that arrived on each of the days (since the epoch); days without any left out."""
    scored = np.isin(log.event_type, _SCORED_CODES)
    wanted = {day: np.flatnonzero(scored & (log.arrival_day == day)) for day in days}
    return {day: rows for day, rows in wanted.items() if len(rows)}


@torch.no_grad()
def score_rows(network: FraudGnn, log: EntityLog, rows: Ints, snapshot: Snapshot) -> NDArray[np.float64]:
    """Raw scores (logits) of the events at `rows`, which see `snapshot`."""
    network.eval()
    scores: NDArray[np.float64] = network(event_graph(log, rows, snapshot, encode(network, snapshot))).double().numpy()
    return scores


@torch.no_grad()
def score_rows_without_graph(network: FraudGnn, log: EntityLog, rows: Ints) -> NDArray[np.float64]:
    """Raw scores (logits) of the events at `rows`, as when their embeddings cannot be read."""
    network.eval()
    layout = Layout.of(log, rows, np.zeros(0, np.int64), np.ones(len(rows), np.bool_))
    nobody = torch.zeros(0, network.config.embedding_dim)
    scores: NDArray[np.float64] = network(layout.embedded(nobody)).double().numpy()
    return scores


@one_thread()
def score_log(network: FraudGnn, log: EntityLog, days: Iterable[int] | None = None, *, graph: bool = True) -> pd.Series:
    """Replays the scored events of the days as they arrived, each day under the snapshot of its first instant.

    Args:
        network: the trained network.
        log: the log, with its labels and the features of its scored events.
        days: days since the epoch by arrival; all when None.
        graph: False scores as when no embedding can be read.

    Returns:
        Raw scores (logits, float64) by event_id, in stream order within a day.
    """
    chosen = scored_rows(log, np.unique(log.arrival_day).tolist() if days is None else days)
    scores = [
        score_rows(network, log, rows, log.snapshot(day * DAY_US, network.config.window_days))
        if graph
        else score_rows_without_graph(network, log, rows)
        for day, rows in chosen.items()
    ]
    rows = np.concatenate([np.zeros(0, np.int64), *chosen.values()])
    return pd.Series(
        np.concatenate([np.zeros(0), *scores]), index=pd.Index(log.event_id[rows], name="event_id"), name="gnn_raw"
    )


@one_thread()
@torch.no_grad()
def embed_snapshot(
    network: FraudGnn, events: pa.Table, labels: pa.Table, as_of_us: int
) -> dict[str, tuple[NDArray[np.object_], NDArray[np.float32]]]:
    """Embeds the entities that were active in the window before an instant.

    Args:
        network: the trained network.
        events: event log in stream order; what arrived at `as_of_us` or later is not looked at.
        labels: label log; what was observed at `as_of_us` or later is not looked at.
        as_of_us: microseconds since the epoch, UTC.

    Returns:
        By entity kind: pseudonyms [m] and embeddings float32 [m, d].
    """
    network.eval()
    log = EntityLog.read(events, labels)
    snapshot = log.snapshot(as_of_us, network.config.window_days)
    embedding = encode(network, snapshot).numpy()
    kinds = log.kind[snapshot.nodes]
    names = log.pseudonym[snapshot.nodes]
    return {kind: (names[kinds == code], embedding[kinds == code]) for code, kind in enumerate(ENTITY_KINDS)}
