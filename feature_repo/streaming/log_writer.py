"""Appends what is in the log stream to the event log, thousands of events at a time."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import json as arrow_json

from feature_repo.errors import CorruptValue
from feature_repo.event_batch import arrow_types
from feature_repo.event_log import MICROSECONDS, append
from feature_repo.streaming import metrics
from feature_repo.streaming.dead_letters import entry_letter

Entry = Mapping[bytes, bytes]
_UNUSABLE = (pa.ArrowException, ValueError, LookupError, CorruptValue)
_SCHEMA = pa.schema([("event", pa.struct(list(arrow_types().items()))), ("ingested_at", pa.int64())])
_PARSE = arrow_json.ParseOptions(explicit_schema=_SCHEMA, unexpected_field_behavior="error", newlines_in_values=False)

logger = logging.getLogger(__name__)


def append_entries(log: Path, entries: Sequence[Entry]) -> list[bytes]:
    """Appends what can be read, in order, and returns the dead letters of the rest."""
    tables, letters = _read(entries)
    if tables:
        table = pa.concat_tables(tables)
        append(log, table)
        metrics.LOGGED.inc(len(table))
    return letters


def _read(entries: Sequence[Entry]) -> tuple[list[pa.Table], list[bytes]]:
    try:
        return [_table(entries)], []
    except _UNUSABLE as error:
        if len(entries) == 1:
            # The class only: the parser's message may quote an id.
            logger.error("an event could not be logged and went to the dead letters: %s", type(error).__name__)
            return [], [entry_letter(entries[0], f"no event of this version's schema ({type(error).__name__})")]
    half = len(entries) // 2
    (first, letters), (second, more) = _read(entries[:half]), _read(entries[half:])
    return first + second, letters + more


def _table(entries: Sequence[Entry]) -> pa.Table:
    numbers = [int(entry[b"stream_seq"]) for entry in entries]
    parsed = arrow_json.read_json(BytesIO(b"\n".join(entry[b"event"] for entry in entries)), parse_options=_PARSE)
    if len(parsed) != len(entries):
        raise CorruptValue(f"{len(entries)} entries hold {len(parsed)} events")
    table = pa.table(dict(zip(arrow_types(), parsed["event"].combine_chunks().flatten(), strict=True)))
    if table["event_id"].null_count or parsed["ingested_at"].null_count:
        raise CorruptValue("an event lacks its id or its arrival")
    at = table.column_names.index("event_timestamp")
    table = table.set_column(at, "event_timestamp", table["event_timestamp"].cast(MICROSECONDS))
    table = table.append_column("stream_seq", pa.array(numbers, pa.int64()))
    return table.append_column("ingested_at", pc.cast(parsed["ingested_at"], MICROSECONDS))
