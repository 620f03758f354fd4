"""Embeds the entities of an event log as of an instant, and writes them as Feast's batch source reads them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from components.train_gnn.entity_graph import DAY_US
from components.train_gnn.replay import embed_snapshot
from feature_repo.event_log import MICROSECONDS, read_log
from feature_repo.labels import read_labels
from inference_services.bundle import verify
from inference_services.gnn_predictor.network import load_network
from inference_services.model_names import GNN

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
# How long a run may be late and still empty the embedding of an entity that left the window.
_FORGET_DAYS = 7


def write_embeddings(bundle_folder: Path, events: Path, labels: Path, as_of: datetime, offline: Path) -> dict[str, int]:
    """Writes `<offline>/embeddings/<sha12>/<kind>.parquet`, each file complete or absent.

    Columns: `<kind>_id` (pseudonym), `embedding` (list of float32), `event_timestamp` (the instant `as_of`, from
    which the row may be used). An entity that left the network's window within the last week has an empty embedding:
    it replaces the old one online, where training too would see none.

    Args:
        bundle_folder: a fraud-gnn bundle.
        events: event log, a folder of day=*/*.parquet.
        labels: label log, a folder of day=*/*.parquet; a missing or empty one means that nothing is known.
        as_of: aware instant; by custom the first of a UTC day, as in training.
        offline: root of Feast's offline files.

    Returns:
        How many entities of each kind were written.

    Raises:
        BundleError: the bundle cannot be used.
        MissingData: the log holds no events.
    """
    bundle = verify(bundle_folder, GNN)
    as_of_us = (as_of - _EPOCH) // _MICROSECOND
    # Partitions are arrival days: later ones cannot matter.
    log = read_log(events, before=as_of.astimezone(UTC).date() + timedelta(days=1))
    network = load_network(bundle_folder)
    known = read_labels(labels, before=as_of.astimezone(UTC).date() + timedelta(days=1))
    embeddings = embed_snapshot(network, log, known, as_of_us)
    recent = _acted_since(log, as_of_us, as_of_us - (network.config.window_days + _FORGET_DAYS) * DAY_US)
    folder = offline / "embeddings" / bundle.sha12
    folder.mkdir(parents=True, exist_ok=True)
    for kind, (names, vectors) in embeddings.items():
        ids = pc.unique(recent.column(f"{kind}_id").drop_null())
        left = ids.filter(pc.invert(pc.is_in(ids, value_set=pa.array(names, pa.string()))))
        table = pa.concat_tables([_rows(kind, names, vectors), _rows(kind, left, None)])
        table = table.append_column("event_timestamp", pa.array(np.full(len(table), as_of_us)).cast(MICROSECONDS))
        pending = folder / f".{kind}.parquet.part"
        pq.write_table(table, pending)
        pending.rename(folder / f"{kind}.parquet")
    return {kind: len(names) for kind, (names, _) in embeddings.items()}


def _acted_since(log: pa.Table, arrived_before_us: int, since_us: int) -> pa.Table:
    arrived = pc.less(log.column("ingested_at").cast(pa.int64()), arrived_before_us)
    happened = pc.greater_equal(log.column("event_timestamp").cast(pa.int64()), since_us)
    return log.filter(pc.and_(arrived, happened))


def _rows(kind: str, names: Any, vectors: NDArray[np.float32] | None) -> pa.Table:
    """A row for each entity, with its vector of `vectors` [m, d], or without any."""
    embeddings = pa.nulls(len(names), pa.list_(pa.float32()))
    if vectors is not None:
        offsets = np.arange(len(names) + 1, dtype=np.int32) * vectors.shape[1]
        embeddings = pa.ListArray.from_arrays(offsets, pa.array(vectors.ravel(), pa.float32()))
    return pa.table({f"{kind}_id": pa.array(names, pa.string()), "embedding": embeddings})
