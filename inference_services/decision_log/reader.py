"""Finds decisions in the log, and those that are in the stream only so far."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from feature_repo.errors import CorruptValue
from feature_repo.event_log import read_parquet
from inference_services.decision_log.files import SCHEMA, files
from inference_services.transformer.decision_record import DecisionRecord
from inference_services.transformer.decisions import FIELD, STREAM

# Redis serves nobody else while it answers.
_PAGE = 128
_SHOWN = [name for name in SCHEMA.names if name not in {"stream_id", "record"}]


@dataclass(frozen=True)
class Wanted:
    """Which decisions to list; None for any.

    Attributes:
        day: UTC day on which the decision was made.
        decision: allow, review or block.
        rider: the rider's pseudonym.
    """

    day: date | None = None
    decision: str | None = None
    rider: str | None = None

    def days(self) -> set[date] | None:
        """The days of the log that can hold them: a decision that waited in a spool reaches the stream later."""
        return None if self.day is None else {self.day, self.day + timedelta(days=1)}

    def takes(self, row: dict[str, Any]) -> bool:
        """Whether a row of the log is among them."""
        return (
            (self.decision is None or row["decision"] == self.decision)
            and (self.rider is None or row["rider_id"] == self.rider)
            and (self.day is None or row["decided_at"].date() == self.day)
        )


def find(log: Path, event_id: str) -> list[DecisionRecord]:
    """The logged decisions about one event, in the order in which they were made, each once.

    Raises:
        CorruptRecord: one is there and cannot be read.
        CorruptValue: a file of the log is damaged.
    """
    found = []
    for file in files(log):
        try:
            found += _records_of(pq.ParquetFile(file), event_id)
        except (pa.ArrowException, OSError) as error:
            raise CorruptValue(f"{file} cannot be read as parquet: {error}") from error
    return _distinct(map(DecisionRecord.from_json, found))


def find_waiting(client: Any, log: Path, event_id: str) -> list[DecisionRecord]:
    """Likewise, of the decisions that are in the stream and not in the log yet.

    Args:
        client: a synchronous Redis client that returns bytes.
        log: the log.
        event_id: the event.

    Raises:
        CorruptRecord: one is there and cannot be read.
        RedisError: Redis does not answer.
    """
    newest = next(files(log), None)
    after = f"({newest.stem.partition('_')[2]}" if newest else "-"
    found = []
    while entries := client.xrange(STREAM, min=after, count=_PAGE):
        found += [
            fields[FIELD.encode()] for _, fields in entries if event_id.encode() in fields.get(FIELD.encode(), b"")
        ]
        after = f"({entries[-1][0].decode()}"
    return [record for record in _distinct(map(DecisionRecord.from_json, found)) if record.event_id == event_id]


def newest(log: Path, wanted: Wanted, limit: int) -> list[dict[str, Any]]:
    """The columns of the last `limit` decisions that are wanted, the newest first, each once.

    Raises:
        CorruptValue: a file of the log is damaged.
    """
    found: dict[str, dict[str, Any]] = {}
    for file in files(log, wanted.days()):
        rows = read_parquet(file, _SHOWN).to_pylist()
        for row in reversed(rows):
            if row["decision_id"] is not None and wanted.takes(row):
                found.setdefault(row["decision_id"], row)
            if len(found) == limit:
                return list(found.values())
    return list(found.values())


def _records_of(file: pq.ParquetFile, event_id: str) -> list[bytes]:
    """The records about an event; those of other row groups than its own are not read."""
    found: list[bytes] = []
    for group in range(file.num_row_groups):
        mine = pc.equal(file.read_row_group(group, ["event_id"]).column("event_id"), event_id)
        if pc.any(mine).as_py():
            found += file.read_row_group(group, ["record"]).filter(mine).column("record").to_pylist()
    return found


def _distinct(records: Iterable[DecisionRecord]) -> list[DecisionRecord]:
    by_id = {record.decision_id: record for record in records}
    return sorted(by_id.values(), key=lambda record: record.decided_at)
