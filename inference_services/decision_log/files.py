"""The log's files: some thousand decisions each, under the day on which they reached the stream.

A file holds what an analyst filters by as columns, and each record as it travelled. It is named for the first and the
last of its stream entries, and is there whole or not at all.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime
from itertools import groupby
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from feature_repo.event_log import MICROSECONDS, log_days, read_parquet

# Stream entry: its id, and the record.
Entry = tuple[str, bytes]

SCHEMA = pa.schema(
    [
        ("stream_id", pa.string()),
        ("decision_id", pa.string()),
        ("event_id", pa.string()),
        ("event_type", pa.string()),
        ("rider_id", pa.string()),
        ("city", pa.string()),
        ("decided_at", MICROSECONDS),
        ("decision", pa.string()),
        ("fraud_probability", pa.float64()),
        ("degraded", pa.string()),
        ("lightgbm_version", pa.string()),
        ("gnn_version", pa.string()),
        ("fusion", pa.string()),
        ("revision", pa.string()),
        ("record", pa.binary()),
    ]
)
_OF_EVENT = ("event_type", "rider_id", "city")
_READ = [name for name in SCHEMA.names if name not in {"stream_id", "record"}]
# Whoever looks for one decision reads the records of one row group: about 2 MB.
_ROW_GROUP = 500


def append(log: Path, entries: Sequence[Entry]) -> int:
    """Writes entries, in the order of their ids, to the files of their days; each is on the disk or absent.

    Returns:
        How many of them are no decisions: they are kept as they are, without columns.
    """
    unreadable = 0
    for day, of_day in groupby(entries, key=lambda entry: _day(entry[0])):
        mine = list(of_day)
        table = _table(mine)
        unreadable += table.column("decision_id").null_count
        _write(log / f"day={day}", f"{mine[0][0]}_{mine[-1][0]}.parquet", table)
    return unreadable


def written(log: Path, ids: Sequence[str]) -> set[str]:
    """Those of some stream entries, in ascending order, that the log has."""
    if not ids:
        return set()
    first, last = _order(ids[0]), _order(ids[-1])
    found: set[str] = set()
    for file in files(log, {_day(i) for i in ids}):
        begin, _, end = file.stem.partition("_")
        if _order(begin) <= last and first <= _order(end):
            found |= set(read_parquet(file, ["stream_id"]).column("stream_id").to_pylist())
    return found & set(ids)


def files(log: Path, days: set[date] | None = None) -> Iterator[Path]:
    """The files of some days, or of all, the newest first."""
    for day in reversed(log_days(log)):
        if days is None or day in days:
            of_day = (log / f"day={day}").glob("[!.]*.parquet")
            yield from sorted(of_day, key=lambda file: _order(file.stem.partition("_")[0]), reverse=True)


def _write(folder: Path, name: str, table: pa.Table) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    pending = folder / f".{name}.part"
    # The ids repeat nothing; the records repeat their names, and are compressed all the same.
    plain = ["stream_id", "decision_id", "event_id", "record"]
    encoded = [column for column in SCHEMA.names if column not in plain]
    pq.write_table(
        table, pending, compression="zstd", compression_level=3, row_group_size=_ROW_GROUP, use_dictionary=encoded
    )
    _to_disk(pending)
    pending.rename(folder / name)
    _to_disk(folder)


def _to_disk(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _table(entries: Sequence[Entry]) -> pa.Table:
    try:
        return pa.Table.from_pylist([_row(*entry) for entry in entries], SCHEMA)
    except (pa.ArrowException, OverflowError):
        if len(entries) == 1:
            (stream_id, record) = entries[0]
            return pa.Table.from_pylist([{"stream_id": stream_id, "record": record}], SCHEMA)
    half = len(entries) // 2
    return pa.concat_tables([_table(entries[:half]), _table(entries[half:])])


def _row(stream_id: str, record: bytes) -> dict[str, Any]:
    """The columns of one entry; of what is no decision, the entry alone."""
    row: dict[str, Any] = {"stream_id": stream_id, "record": record}
    try:
        found = orjson.loads(record)
    except orjson.JSONDecodeError:
        return row
    if not isinstance(found, dict) or not isinstance(found.get("event"), dict):
        return row
    sources = {name: found["event"] if name in _OF_EVENT else found for name in _READ}
    return row | {name: source.get(name) for name, source in sources.items()}


def _day(stream_id: str) -> date:
    return datetime.fromtimestamp(_order(stream_id)[0] / 1000, UTC).date()


def _order(stream_id: str) -> tuple[int, int]:
    """Milliseconds at which an entry reached the stream, and its number within them."""
    milliseconds, _, number = stream_id.partition("-")
    return int(milliseconds), int(number)
