"""What the graph network reads, and the same for trees: nodes of yesterday's snapshot, own and of neighbours."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from components.train_gnn.entity_graph import DAY_US, EntityLog
from feature_repo.graph_features import K_NEIGHBOURS, co_occurrence, edge_features

Floats = NDArray[np.float32]


def read_entity_log(events: pa.Table, labels: pa.Table, features: pd.DataFrame) -> EntityLog:
    """The one place that reads a log for the graph models.

    Args:
        events: a log in stream order.
        labels: event_id, is_fraud, source, observed_at; each is used from `observed_at` on.
        features: event_id and `CONTEXT_FEATURES` of scored events.
    """
    return EntityLog.read(events, labels, features)


def neighbour_features(log: EntityLog, event_ids: NDArray[Any], window_days: int) -> Floats:
    """For each of n events and each of its 4 entities, what the graph network is told about nodes, flat.

    The c features of a node are those of the snapshot at the first instant of the day of arrival.

    Args:
        log: the log.
        event_ids: events of it, [n].
        window_days: of the snapshots.

    Returns:
        float32 [n, 4 * (3 * c + 2 * f)]: of each entity its own, then the mean and the maximum over its recent
        neighbours, and the mean and the maximum of the `EDGE_FEATURES` of those interactions; NaN where there is no
        entity, no neighbour, or none that the snapshot has.
    """
    rows = pd.Index(log.event_id).get_indexer(pd.Index(event_ids))
    day = log.arrival_day[rows]
    out: Floats | None = None
    for which in np.unique(day):
        here = np.flatnonzero(day == which)
        snapshot = log.snapshot(int(which) * DAY_US, window_days)
        part = _of_day(log, rows[here], snapshot.nodes, snapshot.x)
        if out is None:
            out = np.full((len(rows), part.shape[1]), np.nan, np.float32)
        out[here] = part
    return np.zeros((0, 0), np.float32) if out is None else out


def _of_day(log: EntityLog, rows: NDArray[np.int64], nodes: NDArray[np.int64], x: Floats) -> Floats:
    table = np.vstack([x, np.full((1, x.shape[1]), np.nan, np.float32)])
    missing = len(nodes)
    position = np.full(len(log.kind), missing)
    position[nodes] = np.arange(missing)
    entities = log.entities[rows]
    own = table[np.where(entities >= 0, position[entities], missing)]
    exists = np.arange(K_NEIGHBOURS) < log.history_counts[rows][:, :, None]
    places = np.where(exists, position[np.where(exists, log.history_entities[rows], 0)], missing)
    known = (places < missing)[..., None]
    count = known.sum(2)
    near = table[places]
    with np.errstate(invalid="ignore"):
        mean = np.where(known, near, 0).sum(2) / np.where(count > 0, count, np.nan)
    highest = np.where(known, near, -np.inf).max(2)
    highest[np.isneginf(highest)] = np.nan
    own, mean = own.astype(np.float32), mean.astype(np.float32)
    return np.concatenate([own, mean, highest, *_of_interactions(log, rows, exists)], 2).reshape(len(rows), -1)


def _of_interactions(log: EntityLog, rows: NDArray[np.int64], exists: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """Mean and maximum of the features of each entity's interactions, [n, 4, f] each; NaN where it has none."""
    entities = log.entities[rows]
    together = co_occurrence(log.history_entities[rows], exists, entities, entities >= 0)
    n, kinds, k = exists.shape
    as_of = np.repeat(log.event_us[rows], kinds * k)
    features = edge_features(log.history[rows].reshape(-1), as_of, together.reshape(n * kinds * k, -1))
    features = features.reshape(n, kinds, k, -1)
    there, count = exists[..., None], exists.sum(2)[..., None]
    with np.errstate(invalid="ignore"):
        mean = np.where(there, features, 0).sum(2) / np.where(count > 0, count, np.nan)
    highest = np.where(there, features, -np.inf).max(2)
    highest[np.isneginf(highest)] = np.nan
    return mean.astype(np.float32), highest.astype(np.float32)


def graph_frame(log: EntityLog, rows: NDArray[np.int64], window_days: int) -> pd.DataFrame:
    """All that the graph network reads of n events, as numbered columns by event_id: to hold two logs against."""
    history = log.history[rows]
    exists = (np.arange(K_NEIGHBOURS) < log.history_counts[rows][:, :, None])[..., None]
    fields = np.stack([history[name].astype(float) for name in ("ts", "kind", "event_type", "amount")], -1)
    parts: dict[str, NDArray[Any]] = {
        "event": log.features[rows],
        "history_count": log.history_counts[rows],
        "history": np.where(exists, fields, 0).reshape(len(rows), -1),
        "nodes": neighbour_features(log, log.event_id[rows], window_days),
    }
    columns = {f"{name}_{k}": part[:, k] for name, part in parts.items() for k in range(part.shape[1])}
    return pd.DataFrame(columns, index=pd.Index(log.event_id[rows], name="event_id"))


def snapshot_frame(log: EntityLog, as_of_us: int, window_days: int) -> pd.DataFrame:
    """The edges of a snapshot with what the graph network reads of them and of their sources, by pseudonyms."""
    snapshot = log.snapshot(as_of_us, window_days)
    names = log.pseudonym[snapshot.nodes]
    source, target = snapshot.edge_index
    values = np.hstack([snapshot.edge_features, snapshot.x[source]])
    index = pd.MultiIndex.from_arrays([names[source], names[target]], names=["source", "target"])
    return pd.DataFrame(values, index=index, columns=[f"edge_{k}" for k in range(values.shape[1])]).sort_index()
