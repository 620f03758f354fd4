"""What serving knew about each scored event against what training is given for it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from components.train_gnn.entity_graph import DAY_US, EntityLog, Snapshot
from components.train_gnn.replay import encode, event_graph, one_thread
from feature_repo.datasets import Dataset
from feature_repo.feature_names import MODEL_FEATURES
from feature_repo.graph_features import CONTEXT_FEATURES
from feature_repo.historical import training_frame
from feature_repo.online_reader import OnlineReader
from feature_repo.settings import EMBEDDING_DIM
from inference_services.bundle import Bundle
from inference_services.gnn_predictor.network import load_network
from inference_services.subgraph import Subgraph
from inference_services.transformer.decider import model_features
from tests.parity.lockstep import Online

TOLERANCE = 1e-9
_AT_ONCE = 500
_EVENTS_AT_ONCE = 20_000
Tensors = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Offline:
    """What training is given.

    Attributes:
        frame: the training frame, indexed by event_id: `MODEL_FEATURES`.
        log: the log as the graph model's training reads it.
        sequence: number of the last event that any of each event's entities had in common with it, shape of the log.
    """

    frame: pd.DataFrame
    log: EntityLog
    sequence: NDArray[np.int64]

    @classmethod
    def of(cls, dataset: Dataset, work: Path) -> Offline:
        """Runs on a dataset what training runs on it."""
        events = dataset.event_table()
        frame = training_frame(dataset.path, work)
        log = EntityLog.read(events, dataset.label_table(), frame)
        return cls(frame.set_index("event_id"), log, _last_sequence(log, events["stream_seq"].to_numpy()))


@dataclass(frozen=True, slots=True)
class Compared:
    """One value that both sides have for n events, or for m of their entities or interactions.

    Attributes:
        name: the feature or tensor.
        values: how many were compared.
        wrong: how many are more than `TOLERANCE` apart, or known to one side only.
        largest: the largest difference; infinite where a side lacks a value or values are no numbers.
    """

    name: str
    values: int
    wrong: int
    largest: float


def compare(online: Online, offline: Offline) -> list[Compared]:
    """Compares everything but embeddings: the tabular features, the neighbourhoods, and the graph model's tensors."""
    ids = online.events["event_id"]
    frame = offline.frame.reindex(ids)
    served = model_features(online.events, online.read)
    found = [_compared(name, served[name], frame[name].to_numpy()) for name in MODEL_FEATURES]
    place = pd.Index(offline.log.event_id).get_indexer(ids)
    known = place >= 0
    read = online.read
    found += [
        _compared("events known to training", known, np.ones(len(ids))),
        _compared("last event seen", read.sequence[known], offline.sequence[place[known]]),
        _compared("number of neighbours", read.interaction_counts[known], offline.log.history_counts[place[known]]),
    ]
    found += [
        _compared(f"neighbour {name}", read.interactions[name][known], offline.log.history[name][place[known]])
        for name in read.interactions.dtype.names or ()
    ]
    for start in range(0, len(ids), _EVENTS_AT_ONCE):
        rows = np.flatnonzero(known)[start : start + _EVENTS_AT_ONCE]
        given = _subgraph(online, rows).tensors({})
        trained = _numpy(event_graph(offline.log, place[rows], *_NO_EMBEDDINGS))
        found += [_compared(f"graph {name}", values, trained[name]) for name, values in given.items()]
    return merged(found)


@one_thread()
@torch.no_grad()
def compare_embeddings(online: Online, offline: Offline, bundle: Bundle, day: int, redis_url: str) -> list[Compared]:
    """Compares the embeddings that the store holds with those that training uses, for the events of its last day.

    Args:
        online: what serving knew.
        offline: what training is given.
        bundle: the graph model.
        day: the day, counted from the epoch, whose first instant is when the embeddings were published.
        redis_url: the store.
    """
    place = pd.Index(offline.log.event_id).get_indexer(online.events["event_id"])
    rows = np.flatnonzero((place >= 0) & (offline.log.arrival_day[place] == day))
    network = load_network(bundle.folder).eval()
    snapshot = offline.log.snapshot(day * DAY_US, network.config.window_days)
    embedding = encode(network, snapshot)
    found = []
    for start in range(0, len(rows), _AT_ONCE):
        mine = rows[start : start + _AT_ONCE]
        subgraph = _subgraph(online, mine)
        vectors, known = asyncio.run(_embeddings(subgraph, bundle.sha12, redis_url))
        trained = _numpy(event_graph(offline.log, place[mine], snapshot, embedding))
        for name, served in (("embedding", vectors), ("known", known)):
            both = np.concatenate([trained[f"endpoint_{name}"], trained[f"neighbour_{name}"]])
            found.append(_compared(f"embedding {name}", served, both))
    return merged(found)


def merged(parts: list[Compared]) -> list[Compared]:
    """One entry for each name, in the order in which the names come."""
    names = dict.fromkeys(part.name for part in parts)
    by_name = {name: [part for part in parts if part.name == name] for name in names}
    return [
        Compared(name, sum(p.values for p in found), sum(p.wrong for p in found), max(p.largest for p in found))
        for name, found in by_name.items()
    ]


def _compared(name: str, ours: NDArray[Any], theirs: NDArray[Any]) -> Compared:
    if ours.shape != theirs.shape:
        return Compared(name, ours.size, ours.size, np.inf)
    if ours.dtype == object or np.issubdtype(ours.dtype, np.integer):
        apart = np.where(ours == theirs, 0.0, np.inf)
    else:
        ours, theirs = ours.astype(np.float64), theirs.astype(np.float64)
        both_unknown = np.isnan(ours) & np.isnan(theirs)
        apart = np.where(both_unknown | (ours == theirs), 0.0, np.nan_to_num(np.abs(ours - theirs), nan=np.inf))
    return Compared(name, ours.size, int((apart > TOLERANCE).sum()), float(apart.max(initial=0.0)))


def _subgraph(online: Online, rows: NDArray[np.int64]) -> Subgraph:
    served = model_features(online.events, online.read)
    features = {name: served[name][rows] for name in CONTEXT_FEATURES}
    read = online.read
    return Subgraph.build(online.events.take(rows), features, read.interactions[rows], read.interaction_counts[rows])


async def _embeddings(
    subgraph: Subgraph, version: str, redis_url: str
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    reader = OnlineReader(redis_url, timeout_s=30)
    try:
        return await reader.embeddings(version, subgraph.kinds, subgraph.ids, subgraph.key_ids, EMBEDDING_DIM)
    finally:
        await reader.close()


def _numpy(graph: Any) -> Tensors:
    return {name: tensor.numpy() for name, tensor in graph._asdict().items()}


def _last_sequence(log: EntityLog, stream_seq: NDArray[np.int64]) -> NDArray[np.int64]:
    """The number of the last earlier event that has an entity in common with each event, 0 where there is none."""
    last = np.zeros(len(stream_seq), np.int64)
    for entities in log.entities.T:
        rows = np.flatnonzero(entities >= 0)
        order = rows[np.argsort(entities[rows], kind="stable")]
        same = entities[order][1:] == entities[order][:-1]
        now, before = order[1:][same], order[:-1][same]
        last[now] = np.maximum(last[now], stream_seq[before])
    return last


# No entity has an embedding: for the tensors that do not depend on any.
_NO_EMBEDDINGS = (
    Snapshot(
        nodes=np.zeros(0, np.int64),
        x=np.zeros((0, 0), np.float32),
        edge_index=np.zeros((2, 0), np.int64),
        relation=np.zeros(0, np.int64),
        edge_features=np.zeros((0, 0), np.float32),
    ),
    torch.zeros(0, EMBEDDING_DIM),
)
