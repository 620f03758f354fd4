"""Where the views find their rows: parquet files offline, and what the streaming worker pushes online."""

from __future__ import annotations

from pathlib import Path

from feast import FileSource, PushSource

TIMESTAMP = "event_timestamp"


def batch_source(view: str, offline: Path) -> FileSource:
    """`<offline>/<view>.parquet`, written by `batch_features`."""
    return FileSource(name=f"{view}_file", path=str(offline / f"{view}.parquet"), timestamp_field=TIMESTAMP)


def stream_source(view: str, offline: Path) -> PushSource:
    """Rows that the streaming worker writes into the online store, and nobody joins offline.

    Feast wants a file behind every push source; this one does not exist, for training reads the event log.
    """
    return PushSource(name=f"{view}_push", batch_source=batch_source(view, offline))


def embedding_source(kind: str, version: str, offline: Path) -> FileSource:
    """`<offline>/embeddings/<version>/<kind>.parquet`, written by `write_embeddings`."""
    return FileSource(
        name=f"{kind}_embedding_{version}_file",
        path=str(offline / "embeddings" / version / f"{kind}.parquet"),
        timestamp_field=TIMESTAMP,
    )
