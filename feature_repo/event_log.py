"""The event log: every ingested event, pseudonymised and numbered, in day partitions of parquet."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from secrets import token_hex
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from feature_repo.errors import CorruptValue, MissingData
from feature_repo.event_batch import EventBatch

MICROSECONDS = pa.timestamp("us", "UTC")


def log_table(batch: EventBatch, stream_seq: NDArray[Any], ingested_at_us: NDArray[Any]) -> pa.Table:
    """A batch of numbered events in the log's columns: the catalogue's, `stream_seq` and `ingested_at`."""
    table = batch.to_arrow()
    table = table.append_column("stream_seq", pa.array(stream_seq, pa.int64()))
    return table.append_column("ingested_at", pa.array(ingested_at_us, pa.int64()).cast(MICROSECONDS))


def append(log: Path, table: pa.Table) -> list[Path]:
    """Writes events to the partitions of their arrival days, each file complete or absent; returns the files."""
    days = pc.strftime(table.column("ingested_at"), "%Y-%m-%d")
    written = []
    for day in sorted(pc.unique(days).to_pylist()):
        part = table.filter(pc.equal(days, day))
        sequences = part.column("stream_seq")
        name = f"{pc.min(sequences).as_py():012d}-{pc.max(sequences).as_py():012d}.parquet"
        folder = log / f"day={day}"
        folder.mkdir(parents=True, exist_ok=True)
        # A name of its own: a writer that was paused in the middle must not write into the file of its successor.
        pending = folder / f".{name}.{token_hex(4)}.part"
        pq.write_table(part, pending)
        written.append(pending.rename(folder / name))
    return written


def log_days(log: Path) -> list[date]:
    """The days that a log (or any folder of day partitions) has, in order."""
    return sorted(date.fromisoformat(p.name.removeprefix("day=")) for p in log.glob("day=*") if p.is_dir())


def read_log(log: Path, columns: list[str] | None = None, *, before: date | None = None) -> pa.Table:
    """Reads a log in stream order, one row per `event_id` (the first arrival).

    Args:
        log: folder of `day=*/*.parquet`.
        columns: the columns to return; all when None.
        before: read only earlier arrival days.

    Raises:
        MissingData: the log holds no events, or none that arrived early enough.
        CorruptValue: a file of it cannot be read.
    """
    days = [d for d in log_days(log) if before is None or d < before]
    files = sorted(f for d in days for f in (log / f"day={d}").glob("[!.]*.parquet"))
    if not files:
        which = f"no events that arrived before {before}" if before else "no events"
        raise MissingData(f"{which} in {log}: run `fraud data ingest` first")
    wanted = None if columns is None else list({*columns, "event_id", "stream_seq"})
    table = pa.concat_tables([read_parquet(f, wanted) for f in files])
    # Files are written in stream order, and sorting a table of strings takes longer than reading it.
    if not (np.diff(table.column("stream_seq").to_numpy()) > 0).all():
        table = table.sort_by("stream_seq")
    if pc.count_distinct(table.column("event_id")).as_py() != len(table):
        # By position: the copies of a record that was delivered again have one number.
        rows = table.select(["event_id"]).append_column("row", pa.array(np.arange(len(table))))
        first = rows.group_by("event_id", use_threads=False).aggregate([("row", "min")])
        table = table.take(first.column("row_min").sort())
    return table if columns is None else table.select(columns)


def read_parquet(file: Path, columns: list[str] | None = None) -> pa.Table:
    """Reads one file, or some of its columns.

    Raises:
        CorruptValue: it is not parquet, or is cut short or altered.
    """
    try:
        return pq.ParquetFile(file).read(columns)
    except (pa.ArrowException, OSError) as error:
        raise CorruptValue(f"{file} cannot be read as parquet: {error}") from error
