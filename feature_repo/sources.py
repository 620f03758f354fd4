"""Where the views find their rows: parquet files offline, and what the streaming worker pushes online."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from feast import FileSource, PushSource
from feast.data_source import DataSource

TIMESTAMP = "event_timestamp"


@dataclass(frozen=True, slots=True)
class SparkFolder:
    """A folder that Spark reads, by an address that it knows.

    Attributes:
        address: for example `s3a://bucket/offline`.
    """

    address: str


# Where the files of the views are.
Offline = Path | SparkFolder


def batch_source(view: str, offline: Offline) -> DataSource:
    """`<offline>/<view>.parquet`, written by `batch_features`."""
    return _parquet(f"{view}_file", offline, f"{view}.parquet")


def stream_source(view: str, offline: Offline) -> PushSource:
    """Rows that the streaming worker writes into the online store, and nobody joins offline.

    Feast wants a file behind every push source; this one does not exist, for training reads the event log.
    """
    return PushSource(name=f"{view}_push", batch_source=batch_source(view, offline))


def embedding_source(kind: str, version: str, offline: Offline) -> DataSource:
    """`<offline>/embeddings/<version>/<kind>.parquet`, written by `write_embeddings`."""
    return _parquet(f"{kind}_embedding_{version}_file", offline, f"embeddings/{version}/{kind}.parquet")


def _parquet(name: str, offline: Offline, file: str) -> DataSource:
    """A parquet file; Feast's Spark store reads no `FileSource`, and every other store reads nothing else."""
    if isinstance(offline, Path):
        return FileSource(name=name, path=str(offline / file), timestamp_field=TIMESTAMP)
    from feast.infra.offline_stores.contrib.spark_offline_store.spark_source import SparkSource  # noqa: PLC0415

    path = f"{offline.address.rstrip('/')}/{file}"
    return SparkSource(name=name, path=path, file_format="parquet", timestamp_field=TIMESTAMP)
