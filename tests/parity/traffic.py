"""A world's days as producers send them: some events late, some by clocks that are ahead, some twice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from feature_repo.event_batch import EventBatch
from simulators.ride_hailing import read_events

DAY_US = 86_400_000_000
_SECOND_US = 1_000_000
# Of the events: those whose phone's clock is ahead, and by how much at most; ingestion refuses more than 5 minutes.
_AHEAD_SHARE, _MOST_AHEAD_S = 0.01, 4 * 60
# Those that are stamped by a machine whose clock is off, and by how much, so that arrivals do not ascend everywhere.
_OFF_SHARE, _MOST_OFF_S = 0.1, 30
# Those that a producer sends again, and how much later.
_AGAIN_SHARE, _MOST_AGAIN_S = 0.01, 6 * 3600


@dataclass(frozen=True)
class Traffic:
    """n raw events in the order in which they are published.

    Attributes:
        batch: the events.
        arrived_us: their arrival stamps, microseconds; they do not quite ascend, but never leave their day.
        first: False where the same event was published before, shape [n].
    """

    batch: EventBatch
    arrived_us: NDArray[np.int64]
    first: NDArray[np.bool_]

    def of_day(self, day: int) -> Traffic:
        """What arrived on a day, counted from the epoch."""
        rows = np.flatnonzero(self.arrived_us // DAY_US == day)
        return Traffic(self.batch.take(rows), self.arrived_us[rows], self.first[rows])


def traffic(world: Path, days: Sequence[date], rng: np.random.Generator) -> Traffic:
    """The events that the world sends on some successive days, and their repeats that fall into these days."""
    table = pa.concat_tables([read_events(world, day) for day in days])
    batch = EventBatch.from_arrow(table)
    sent = table["sent_at"].cast(pa.int64()).to_numpy()
    n, (start, end) = len(batch), (_midnight_us(days[0]), _midnight_us(days[-1]) + DAY_US)
    ahead = batch["event_timestamp"] - rng.integers(_SECOND_US, _MOST_AHEAD_S * _SECOND_US, n)
    reached = np.where(rng.random(n) < _AHEAD_SHARE, np.clip(ahead, start, sent), sent)
    again = np.flatnonzero(rng.random(n) < _AGAIN_SHARE)
    repeated = reached[again] + rng.integers(_SECOND_US, _MOST_AGAIN_S * _SECOND_US, len(again))
    again, repeated = again[repeated < end], repeated[repeated < end]
    rows, reached = np.concatenate([np.arange(n), again]), np.concatenate([reached, repeated])
    order = np.argsort(reached, kind="stable")
    rows, reached = rows[order], reached[order]
    first = np.zeros(len(rows), np.bool_)
    first[np.unique(rows, return_index=True)[1]] = True
    off = rng.integers(-_MOST_OFF_S * _SECOND_US, _MOST_OFF_S * _SECOND_US, len(rows))
    off[rng.random(len(rows)) >= _OFF_SHARE] = 0
    day_us = reached // DAY_US * DAY_US
    return Traffic(batch.take(rows), np.clip(reached + off, day_us, day_us + DAY_US - 1), first)


def _midnight_us(day: date) -> int:
    return pc.cast(pa.scalar(day), pa.timestamp("us")).cast(pa.int64()).as_py()
