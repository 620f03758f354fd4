"""Ingestion: the one place that validates events, replaces their ids by pseudonyms, and numbers them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from feature_repo.errors import MissingData
from feature_repo.event_batch import EventBatch, field_problem
from feature_repo.event_log import append, log_days, log_table
from feature_repo.event_schemas import SCHEMA_VERSION
from feature_repo.event_schemas.validation import FieldError, validate
from feature_repo.pseudonyms import ENTITY_KINDS, Pseudonymiser
from feature_repo.streaming.dead_letters import event_letter
from feature_repo.tiles import LONGEST_WINDOW_S

# A producer may say for which version of the schemas it wrote an event.
VERSION_FIELD = "schema_version"
# What a refusal names in place of a field when the event is at fault as a whole.
WHOLE_EVENT = "event"
# A field's name is the producer's own while nobody knows it, and is kept and logged.
_LONGEST_NAME = 80
# What a synchronised phone may be ahead of us. An event further ahead would pass for the entity's latest and make the
# worker forget all its tiles.
MOST_AHEAD_US = 5 * 60 * 1_000_000
# The longest window: an older event can change no feature.
MOST_BEHIND_US = LONGEST_WINDOW_S * 1_000_000


@dataclass(frozen=True)
class Screened:
    """What validation made of a batch.

    Attributes:
        accepted: the valid events, under pseudonyms.
        kept: positions of the accepted events in the batch given.
        refused: every breach, by row of the batch given.
    """

    accepted: EventBatch
    kept: np.ndarray[Any, np.dtype[np.int64]]
    refused: list[FieldError]


def screen(batch: EventBatch, pseudonymise: Pseudonymiser, arrived_us: NDArray[np.int64]) -> Screened:
    """Validates a batch and pseudonymises what is valid.

    Args:
        batch: n raw events.
        pseudonymise: the key for ids.
        arrived_us: their arrival, microseconds, shape [n]; an event by a wrong clock is refused.
    """
    valid = screen_pseudonymised(batch, arrived_us)
    return Screened(with_pseudonyms(valid.accepted, pseudonymise), valid.kept, valid.refused)


def screen_pseudonymised(batch: EventBatch, arrived_us: NDArray[np.int64]) -> Screened:
    """Validates a batch whose ids stay as they are; see `screen`."""
    refused = sorted([*validate(batch), *_wrong_clocks(batch, arrived_us)], key=lambda e: (e.row, e.field))
    bad = {error.row for error in refused}
    kept = np.array([i for i in range(len(batch)) if i not in bad], np.int64)
    return Screened(batch.take(kept), kept, refused)


def _wrong_clocks(batch: EventBatch, arrived_us: NDArray[np.int64]) -> Iterator[FieldError]:
    ahead = batch["event_timestamp"] - arrived_us
    wrong = (ahead > MOST_AHEAD_US) | (ahead < -MOST_BEHIND_US)
    for row in np.flatnonzero(wrong & batch.present["event_timestamp"]):
        reason = (
            f"must lie within 30 days before and 5 minutes after the arrival, not {ahead[row] / 1e6:+.0f} s from it"
        )
        yield FieldError(int(row), "event_timestamp", reason)


def with_pseudonyms(batch: EventBatch, pseudonymise: Pseudonymiser) -> EventBatch:
    """Replaces every entity id of a batch."""
    columns = dict(batch.columns)
    for kind in ENTITY_KINDS:
        name = f"{kind}_id"
        present = batch.present[name]
        ids = columns[name].copy()
        ids[present] = [pseudonymise(kind, raw) for raw in ids[present]]
        columns[name] = ids
    return EventBatch(columns, batch.present)


def dead_letters(batch: EventBatch, refused: list[FieldError], pseudonymise: Pseudonymiser) -> list[bytes]:
    """The refused events, one JSON line each with its reasons, so that none is lost; ids are replaced here too."""
    reasons: dict[int, list[str]] = {}
    for error in refused:
        reasons.setdefault(error.row, []).append(f"{error.field} {error.reason}")
    events = with_pseudonyms(batch.take(np.array(list(reasons), np.int64)), pseudonymise)
    return [event_letter(event, why) for event, why in zip(events.rows(), reasons.values(), strict=True)]


@dataclass(frozen=True)
class ReadRows:
    """What was read of JSON-like records.

    Attributes:
        batch: those that have the form of events, valid or not.
        kept: their positions in the records given.
        refused: why each other one was refused.
        letters: the dead letters of those.
    """

    batch: EventBatch
    kept: NDArray[np.int64]
    refused: list[FieldError]
    letters: list[bytes]


def read_rows(rows: Sequence[dict[str, Any]], pseudonymise: Pseudonymiser) -> ReadRows:
    """Reads events as producers send them; one that cannot be read costs no other its place.

    Args:
        rows: one object per event; `schema_version` may say which schema it was made for.
        pseudonymise: the key for the ids in dead letters.
    """
    good, kept, refused, letters = [], [], [], []
    for row, given in enumerate(rows):
        problem = _unreadable(row, given)
        if problem is None:
            good.append({name: value for name, value in given.items() if name != VERSION_FIELD})
            kept.append(row)
        else:
            refused.append(problem)
            letters.append(event_letter(_without_names(given, pseudonymise), [f"{problem.field} {problem.reason}"]))
    return ReadRows(EventBatch.from_checked_rows(good), np.array(kept, np.int64), refused, letters)


def _unreadable(row: int, given: Any) -> FieldError | None:
    """Why a record cannot become an event of a batch; None when it can."""
    if not isinstance(given, dict):
        return FieldError(row, WHOLE_EVENT, "is not a JSON object")
    version = given.get(VERSION_FIELD, SCHEMA_VERSION)
    if version != SCHEMA_VERSION:
        return FieldError(row, VERSION_FIELD, f"{version!r:.20} is not known: this is {SCHEMA_VERSION!r}")
    for name, value in given.items():
        if name != VERSION_FIELD:
            reason = field_problem(name, value)
            if reason is not None:
                return FieldError(row, name[:_LONGEST_NAME], reason)
    return None


def _without_names(given: Any, pseudonymise: Pseudonymiser) -> dict[str, Any]:
    """What may be kept of a record that nobody understands: known fields of a known form, ids under pseudonyms."""
    if not isinstance(given, dict):
        return {}
    known = {name: value for name, value in given.items() if field_problem(name, value) is None and value is not None}
    ids = {f"{kind}_id": kind for kind in ENTITY_KINDS}
    return {name: pseudonymise(ids[name], value) if name in ids else value for name, value in known.items()}


def ingest_files(
    events: Path,
    log: Path,
    pseudonymise: Pseudonymiser,
    *,
    days: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> int:
    """Loads a company's past events, `events/day=*/*.parquet` with a `sent_at` column, into an empty event log.

    An event's arrival is its `sent_at`; numbers follow the arrival order.

    Args:
        events: folder of day partitions.
        log: the event log to write; must be empty.
        pseudonymise: the key for ids.
        days: load only the first so many days.
        progress: called with (days done, days in all).

    Returns:
        How many events were accepted; refused ones are in `<log>/dead_letters.jsonl`.

    Raises:
        MissingData: there are no events, or the log already has some.
    """
    if log_days(log):
        raise MissingData(f"{log} already holds events: remove it, or ingest into another folder")
    found = log_days(events)[:days]
    if not found:
        raise MissingData(f"no event files in {events}: run `fraud simulate` first")
    sequence = 0
    for done, day in enumerate(found, 1):
        files = sorted((events / f"day={day}").glob("[!.]*.parquet"))
        table = pa.concat_tables([pq.ParquetFile(f).read() for f in files]).sort_by("sent_at")
        batch = EventBatch.from_arrow(table)
        arrived = table.column("sent_at").cast(pa.int64()).to_numpy()
        screened = screen(batch, pseudonymise, arrived)
        letters = dead_letters(batch, screened.refused, pseudonymise)
        if letters:
            log.mkdir(parents=True, exist_ok=True)
            with (log / "dead_letters.jsonl").open("ab") as file:
                file.writelines(letter + b"\n" for letter in letters)
        sent = arrived[screened.kept]
        numbers = np.arange(sequence + 1, sequence + 1 + len(sent))
        append(log, log_table(screened.accepted, numbers, sent))
        sequence += len(sent)
        if progress:
            progress(done, len(found))
    return sequence
