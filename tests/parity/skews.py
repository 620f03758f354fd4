"""Deliberate skews of the offline side, each a mistake that somebody could make; the comparison must find every one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from feature_repo import batch_features
from feature_repo.datasets import snapshot
from feature_repo.event_log import append, log_days, read_log
from tests.parity.comparison import Offline

Log = Callable[[pa.Table], pa.Table]


@dataclass(frozen=True)
class Skew:
    """A mistake.

    Attributes:
        name: what is wrong.
        shows_in: a value that must be found to differ.
        log: what is done to the log that training reads.
        query: the function of `batch_features` whose SQL is changed, and how.
    """

    name: str
    shows_in: str
    log: Log = lambda table: table
    query: tuple[str, str, str] | None = None

    @contextmanager
    def made(self) -> Iterator[None]:
        """Makes the mistake in the SQL while inside."""
        with pytest.MonkeyPatch.context() as patch:
            if self.query is not None:
                name, right, wrong = self.query
                made = getattr(batch_features, name)
                patch.setattr(batch_features, name, lambda *given: _replaced(made(*given), right, wrong))
            yield


def offline_with(skew: Skew, log: Path, labels: Path, folder: Path) -> Offline:
    """What training would be given from a log if the mistake were made."""
    append(folder / "log", skew.log(read_log(log)))
    dataset = snapshot(folder / "log", labels, folder / "datasets", log_days(log)[-1] + timedelta(days=1))
    with skew.made():
        return Offline.of(dataset, folder / "work")


def _replaced(text: str, right: str, wrong: str) -> str:
    assert right in text, f"{right!r} is not in the query any more: write the skew anew"
    return text.replace(right, wrong)


def _numbered_by(name: str) -> Log:
    """Numbers the events by a column, equal ones by their right number."""

    def renumbered(table: pa.Table) -> pa.Table:
        order = np.lexsort((table["stream_seq"].to_numpy(), table[name].cast(pa.int64()).to_numpy()))
        numbers = np.sort(table["stream_seq"].to_numpy())
        table = table.take(pa.array(order))
        return table.set_column(table.schema.get_field_index("stream_seq"), "stream_seq", pa.array(numbers))

    return renumbered


def _twice(table: pa.Table) -> pa.Table:
    """Every tenth event once more under another id, as a log without `event_id` would keep a repeat."""
    again = table.take(pa.array(np.arange(0, len(table), 10)))
    ids = pc.binary_join_element_wise(again["event_id"], "again", "-")
    again = again.set_column(again.schema.get_field_index("event_id"), "event_id", ids)
    return pa.concat_tables([table, again]).sort_by("stream_seq")


_LATE = "epoch_us(h.ingested_at) - h.ts < 300000000"
SKEWS = (
    Skew(
        "windows reach one tile too far back",
        "rider_requests_1h",
        query=("_inside", " > ", " >= "),
    ),
    Skew(
        "windows begin a whole length before the event, not at a tile",
        "driver_trips_24h",
        query=("_pairs_query", "h.t3600 > e.t3600 - 24", "h.ts > e.ts - 86400000000"),
    ),
    Skew(
        "late events are not seen",
        "rider_age_s",
        query=("_pairs_query", "h.stream_seq < e.stream_seq", f"h.stream_seq < e.stream_seq AND {_LATE}"),
    ),
    Skew(
        "an event sees itself",
        "rider_age_s",
        query=("_pairs_query", "h.stream_seq < e.stream_seq", "h.stream_seq <= e.stream_seq"),
    ),
    Skew("events are ordered by their arrival stamps", "device_age_s", log=_numbered_by("ingested_at")),
    Skew("events are ordered by when they happened", "neighbour ts", log=_numbered_by("event_timestamp")),
    Skew("repeats count", "number of neighbours", log=_twice),
    Skew(
        "ages are in single precision",
        "rider_age_s",
        query=("_activity_query", "/ 1000000.0::DOUBLE", "/ 1000000.0::FLOAT"),
    ),
    Skew(
        "profiles are used on the day that they are made of",
        "rider_tenure_days",
        query=("_profile_query", "INTERVAL 1 DAY", "INTERVAL 0 DAY"),
    ),
    Skew(
        "labels are used before they are observed",
        "rider_confirmed_frauds",
        query=("spells_query", "greatest(observed_at, ingested_at)", "ingested_at"),
    ),
    Skew(
        "labels that come after the last event of their entity are left out",
        "rider_confirmed_frauds",
        query=("_profile_query", "FULL JOIN", "LEFT JOIN"),
    ),
)
