"""Embeds the entities of an event log as of an instant, and writes them as Feast's batch source reads them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from components.train_gnn.replay import embed_snapshot
from feature_repo.event_log import read_log
from inference_services.bundle import verify
from inference_services.gnn_predictor.network import load_network
from inference_services.model_names import GNN

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def write_embeddings(bundle_folder: Path, events: Path, as_of: datetime, offline: Path) -> dict[str, int]:
    """Writes `<offline>/embeddings/<sha12>/<kind>.parquet`, each file complete or absent.

    Columns: `<kind>_id` (pseudonym), `embedding` (list of float32), `event_timestamp` (the instant `as_of`, from
    which the row may be used).

    Args:
        bundle_folder: a fraud-gnn bundle.
        events: event log, a folder of day=*/*.parquet.
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
    embeddings = embed_snapshot(load_network(bundle_folder), log, as_of_us)
    folder = offline / "embeddings" / bundle.sha12
    folder.mkdir(parents=True, exist_ok=True)
    for kind, (names, vectors) in embeddings.items():
        offsets = np.arange(len(names) + 1, dtype=np.int32) * vectors.shape[1]
        table = pa.table(
            {
                f"{kind}_id": pa.array(names, pa.string()),
                "embedding": pa.ListArray.from_arrays(offsets, pa.array(vectors.ravel(), pa.float32())),
                "event_timestamp": pa.array(np.full(len(names), as_of_us)).cast(pa.timestamp("us", "UTC")),
            }
        )
        pending = folder / f".{kind}.parquet.part"
        pq.write_table(table, pending)
        pending.rename(folder / f"{kind}.parquet")
    return {kind: len(names) for kind, (names, _) in embeddings.items()}
