"""Who met whom: an event log as integer arrays, and the graph of its entities as of an instant."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from components.train_gnn.label_history import LABEL_FEATURES, LabelHistory
from feature_repo.event_batch import EventBatch
from feature_repo.event_schemas import EVENT_TYPES
from feature_repo.graph_features import (
    CONTEXT_FEATURES,
    ID_FIELDS,
    context_features,
    event_codes,
    event_features,
    event_interactions,
    neighbour_rows,
    seen_interactions,
)
from feature_repo.pseudonyms import ENTITY_KINDS, KIND_LETTERS
from inference_services.gnn_predictor.entity_layers import EntityGraph, entity_graph

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]

DAY_US = 86_400_000_000
_KINDS = len(ENTITY_KINDS)
_TYPES = len(EVENT_TYPES)
NODE_FEATURES: tuple[str, ...] = (
    *(f"is_{kind}" for kind in ENTITY_KINDS),
    *(f"log_distinct_{kind}" for kind in ENTITY_KINDS),
    *(f"log_most_with_a_{kind}" for kind in ENTITY_KINDS),
    *(f"log_{event_type}" for event_type in EVENT_TYPES),
    "log_days_since_last",
    "log_days_since_first",
    "events_per_pair",
    *LABEL_FEATURES,
)


class Snapshot(NamedTuple):
    """The graph of the entities that were active in the window before an instant.

    Attributes:
        nodes: int64 [m], numbers of the entities in the log.
        x: float32 [m, len(NODE_FEATURES)].
        edge_index: int64 [2, e], rows of `nodes`: every pair that shared an event, once in each direction.
        relation: int64 [e], position in `RELATIONS`, ascending; within one by target and source.
        edge_features: float32 [e, len(PAIR_FEATURES)].
    """

    nodes: Ints
    x: Floats
    edge_index: Ints
    relation: Ints
    edge_features: Floats

    def graph(self) -> EntityGraph:
        """As stage 1 of the network reads it."""
        return entity_graph(self.x, self.edge_index, self.relation, self.edge_features)


@dataclass(frozen=True)
class EntityLog:
    """A log of n events, its m entities numbered from 0.

    Attributes:
        event_id: object [n].
        event_us: int64 [n], event time in microseconds.
        arrival_us: int64 [n], ascending.
        event_type: int64 [n], position in `EVENT_TYPES`.
        amount: float64 [n], toman, 0 without one.
        features: float32 [n, len(HEAD_FEATURES)]; what the store knew is 0 for events that are not scored.
        entities: int64 [n, 4], the event's entity of each kind, -1 where it has none.
        history: INTERACTION [n, 4, K], what each event saw, most recent first.
        history_counts: int64 [n, 4].
        history_entities: int64 [n, 4, K], the interactions' counterparts; meaningless beyond the count.
        kind: int64 [m], position in `ENTITY_KINDS`.
        pseudonym: object [m].
        pair: int64 [n, 3], number of the (rider, other) pair by other kind, -1 where there is no other.
        pairs: int64 [pairs, 2], the two entities of each pair.
        labels: what became known of the events, and when.
    """

    event_id: NDArray[Any]
    event_us: Ints
    arrival_us: Ints
    event_type: Ints
    amount: NDArray[np.float64]
    features: Floats
    entities: Ints
    history: NDArray[np.void]
    history_counts: Ints
    history_entities: Ints
    kind: Ints
    pseudonym: NDArray[Any]
    pair: Ints
    pairs: Ints
    labels: LabelHistory

    @classmethod
    def read(cls, events: pa.Table, labels: pa.Table | None = None, frame: pd.DataFrame | None = None) -> EntityLog:
        """Numbers the entities of an event log.

        Args:
            events: event log in stream order, with `ingested_at`.
            labels: the label log (event_id, is_fraud, source, observed_at); each is used from `observed_at` on.
            frame: event_id and `CONTEXT_FEATURES` of the scored events; not needed to embed entities.
        """
        batch = EventBatch.from_arrow(events)
        entities, names = _number(batch)
        added, _ = event_interactions(batch)
        rows, counts = neighbour_rows(entities)
        pair, pairs = _pairs(entities)
        letters = {KIND_LETTERS[k]: i for i, k in enumerate(ENTITY_KINDS)}
        arrival = events.column("ingested_at").cast(pa.timestamp("us", "UTC")).cast(pa.int64()).to_numpy()
        return cls(
            event_id=batch["event_id"],
            event_us=batch["event_timestamp"],
            arrival_us=arrival,
            event_type=event_codes(batch).astype(np.int64),
            amount=np.nan_to_num(batch["amount"].astype(np.float64)),
            features=np.concatenate([event_features(batch), _context(batch["event_id"], frame)], axis=1),
            entities=entities,
            history=seen_interactions(added, rows),
            history_counts=counts,
            history_entities=_counterparts(entities, added["kind"], rows),
            kind=np.array([letters[name[0]] for name in names], np.int64),
            pseudonym=names,
            pair=pair,
            pairs=pairs,
            labels=LabelHistory.read(labels, batch["event_id"]),
        )

    @property
    def arrival_day(self) -> Ints:
        """Days since the epoch on which each event arrived, UTC, shape [n]."""
        return self.arrival_us // DAY_US

    def snapshot(self, as_of_us: int, window_days: int) -> Snapshot:
        """The graph of the events that arrived before `as_of_us` and happened in the window before it."""
        arrived = int(np.searchsorted(self.arrival_us, as_of_us))
        rows = np.arange(arrived)
        rows = rows[self.event_us[rows] >= as_of_us - window_days * DAY_US]
        m = len(self.kind)
        entities = self.entities[rows]
        exists = entities >= 0
        event, _ = np.nonzero(exists)
        entity = entities[exists]
        by_type = np.bincount(entity * _TYPES + self.event_type[rows][event], minlength=m * _TYPES).reshape(m, _TYPES)
        total = by_type.sum(1)
        pair = self.pair[rows]
        count = np.bincount(pair[pair >= 0], minlength=len(self.pairs))
        ends = self.pairs[count > 0]
        both = np.concatenate([ends, ends[:, ::-1]])
        cell = both[:, 0] * _KINDS + self.kind[both[:, 1]]
        distinct = np.bincount(cell, minlength=m * _KINDS).reshape(m, _KINDS)
        most = np.zeros(m * _KINDS)
        np.maximum.at(most, cell, np.tile(count[count > 0], 2))
        last, first = np.zeros(m, np.int64), np.full(m, as_of_us)
        times = self.event_us[rows][event]
        np.maximum.at(last, entity, times)
        np.minimum.at(first, entity, times)
        nodes = np.flatnonzero(total)
        days = (as_of_us - np.column_stack([last, first])[nodes]).clip(0) / DAY_US
        since = as_of_us - window_days * DAY_US
        x = np.column_stack(
            [
                np.eye(_KINDS)[self.kind[nodes]],
                np.log1p(distinct[nodes]),
                np.log1p(most.reshape(m, _KINDS)[nodes]),
                np.log1p(by_type[nodes]),
                np.log1p(days),
                np.log(total[nodes] / np.maximum(distinct[nodes].sum(1), 1)),
                self.labels.features(
                    as_of_us, since, arrived=arrived, entities=self.entities, event_us=self.event_us, m=m
                )[nodes],
            ]
        ).astype(np.float32)
        position = np.full(m, -1)
        position[nodes] = np.arange(len(nodes))
        features = self._pair_features(rows, count, as_of_us)
        return Snapshot(nodes, x, *_edges(position[ends], self.kind[ends[:, 1]], features))

    def _pair_features(self, rows: Ints, count: Ints, as_of_us: int) -> Floats:
        """`PAIR_FEATURES` of the pairs that share any of the events at `rows`, as often as `count` says, [p, 4]."""
        pair = self.pair[rows]
        exists = pair >= 0
        which, _ = np.nonzero(exists)
        number, times = pair[exists], self.event_us[rows][which]
        size, met = len(self.pairs), np.flatnonzero(count)
        amount = np.bincount(number, self.amount[rows][which], minlength=size)
        last, first = np.zeros(size, np.int64), np.full(size, as_of_us)
        np.maximum.at(last, number, times)
        np.minimum.at(first, number, times)
        days = (as_of_us - np.column_stack([last, first])[met]).clip(0) / DAY_US
        columns = [np.log1p(count[met]), np.log1p(days), np.log1p(amount[met] / count[met])]
        return np.column_stack(columns).astype(np.float32)


def _edges(ends: Ints, other: Ints, features: Floats) -> tuple[Ints, Ints, Floats]:
    """Both directions of p pairs, sorted by relation, target and source.

    Args:
        ends: rows of the rider and the other, [p, 2].
        other: kind of the other, 1 to 3, [p].
        features: [p, f].

    Returns:
        edge_index [2, 2p] (source, target), relation [2p] and features [2p, f].
    """
    edges = np.concatenate([ends, ends[:, ::-1]]).T
    relation = np.concatenate([2 * (other - 1), 2 * (other - 1) + 1])
    m = int(edges.max(initial=0)) + 1
    # One key is sorted several times faster than three; no two edges have the same.
    order = np.argsort((relation * m + edges[1]) * m + edges[0])
    return np.ascontiguousarray(edges[:, order]), relation[order], np.concatenate([features, features])[order]


def _context(event_id: NDArray[Any], frame: pd.DataFrame | None) -> Floats:
    """The logarithms of `CONTEXT_FEATURES` of the log's events, zeros where the frame has none, [n, f]."""
    result = np.zeros((len(event_id), len(CONTEXT_FEATURES)), np.float32)
    if frame is not None:
        row = pd.Index(event_id).get_indexer(pd.Index(frame["event_id"]))
        for column, name in enumerate(CONTEXT_FEATURES):
            values = frame[name].to_numpy(np.float64)[row >= 0]
            result[row[row >= 0], column] = context_features(values)
    return result


def _number(batch: EventBatch) -> tuple[Ints, NDArray[Any]]:
    """Numbers the entities of the events: [n, 4] with -1 where there is none, and their pseudonyms, [m]."""
    exists = np.column_stack([batch.present[name] for name in ID_FIELDS])
    ids = np.column_stack([batch[name] for name in ID_FIELDS])
    codes, names = pd.factorize(ids[exists])
    entities = np.full(ids.shape, -1, np.int64)
    entities[exists] = codes
    return entities, names


def _counterparts(entities: Ints, kind: NDArray[np.uint8], rows: NDArray[np.int32]) -> Ints:
    """The numbers of the counterparts of the interactions at `rows` [n, 4, K]; some number where there is none.

    Args:
        entities: the entities of the log's events, [n, 4].
        kind: the kind of the counterpart that each of them met, [n, 4].
        rows: see `neighbour_rows`.
    """
    met = np.take_along_axis(entities, kind.astype(np.int64), axis=1).clip(0)
    return np.stack([met[:, slot][rows[:, slot]] for slot in range(_KINDS)], axis=1)


def _pairs(entities: Ints) -> tuple[Ints, Ints]:
    """Numbers the distinct (rider, other) pairs of the events: [n, 3] and [pairs, 2]."""
    rider, others = entities[:, :1], entities[:, 1:]
    exists = (others >= 0) & (rider >= 0)
    code = (rider << 32) + others
    distinct, inverse = np.unique(code[exists], return_inverse=True)
    pair = np.full(others.shape, -1, np.int64)
    pair[exists] = inverse
    return pair, np.column_stack([distinct >> 32, distinct & 0xFFFFFFFF])
