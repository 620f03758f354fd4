"""Small random logs with all that arrival order can do: events late, ahead, at one instant, on edges of tiles, again
and again between the same people.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from hypothesis import strategies as st
from numpy.typing import NDArray

from feature_repo.event_batch import EventBatch
from feature_repo.event_log import log_table
from feature_repo.event_schemas import CATALOGUE, EVENT_TYPES
from feature_repo.ingestion import screen
from feature_repo.pseudonyms import ENTITY_KINDS, Pseudonymiser
from tests.parity.traffic import Traffic

SECOND_US = 1_000_000
DAY_S = 86_400
# A midnight, so that every tile begins with it.
START_US = 20_500 * DAY_S * SECOND_US
# Between two arrivals: nothing, next to nothing, and the lengths of tiles and windows, to the microsecond.
_STEPS_S = (0, 1e-6, 1, 299, 300, 3600, 23 * 3600, DAY_S, 6 * DAY_S, 29 * DAY_S)
# From an event to its arrival. By a phone that is ahead, or late; the last is as late as serving can bear, see below.
_DELAYS_S = (-300, -1e-6, 0, 0, 1, 300, 3600, DAY_S, 25 * 3600)
_EDGES_US = (-1, 0, 1)
# Tiles are kept so long that an event up to 25 hours late is read as training reads it. A later one is counted where it
# belongs, but its own short windows may miss what was forgotten.
_LATER_S = (*_DELAYS_S, 26 * 3600, 8 * DAY_S, 30 * DAY_S)


@dataclass(frozen=True)
class Drawn:
    """One event as it was drawn; its place in the log and its id come later.

    Attributes:
        step_us: from the arrival before it to its own.
        delay_us: from the event to its arrival.
        event_type: what happened.
        ids: which of a few riders, drivers, devices and payment instruments; 0 for none where none may be.
        amount: of money.
    """

    step_us: int
    delay_us: int
    event_type: str
    ids: tuple[int, ...]
    amount: int


def events(delays_s: Sequence[float] = _DELAYS_S) -> st.SearchStrategy[Drawn]:
    """Events among few people, so that they meet again; late by at most what serving can bear."""

    def microseconds(seconds: Sequence[float]) -> st.SearchStrategy[int]:
        edge = st.sampled_from(_EDGES_US)
        return st.builds(lambda s, e: round(s * SECOND_US) + e, st.sampled_from(seconds), edge)

    return st.builds(
        Drawn,
        step_us=microseconds(_STEPS_S).map(lambda us: max(us, 0)),
        delay_us=microseconds(delays_s).map(
            lambda us: min(max(us, -300 * SECOND_US), round(max(delays_s)) * SECOND_US)
        ),
        event_type=st.sampled_from(EVENT_TYPES),
        ids=st.tuples(st.integers(1, 2), st.integers(0, 2), st.integers(1, 2), st.integers(0, 2)),
        amount=st.sampled_from([0, 1, 999, 10**9]),
    )


def later_events() -> st.SearchStrategy[Drawn]:
    """The same, late by as much as ingestion takes."""
    return events(_LATER_S)


def traffic_of(drawn: Sequence[Drawn]) -> Traffic:
    """The events one after the other, as producers send them."""
    arrived = START_US + np.cumsum([d.step_us for d in drawn], dtype=np.int64)
    rows = [_row(n, d, int(at)) for n, (d, at) in enumerate(zip(drawn, arrived.tolist(), strict=True))]
    return Traffic(EventBatch.from_rows(rows), arrived, np.ones(len(rows), np.bool_))


def log_of(traffic: Traffic, pseudonymise: Pseudonymiser) -> pa.Table:
    """The event log that ingestion would write, numbered from 1."""
    screened = screen(traffic.batch, pseudonymise, traffic.arrived_us)
    assert not screened.refused, screened.refused[0]
    numbers: NDArray[np.int64] = np.arange(1, len(traffic.batch) + 1)
    return log_table(screened.accepted, numbers, traffic.arrived_us)


def _row(number: int, drawn: Drawn, arrived_us: int) -> dict[str, Any]:
    required = CATALOGUE.required[drawn.event_type]
    row = {name: _FILLED[name] for name in required if name in _FILLED}
    for kind, which in zip(ENTITY_KINDS, drawn.ids, strict=True):
        name = f"{kind}_id"
        if which or name in required:
            row[name] = f"{kind}-{which}"
    if "amount" in required:
        row["amount"] = drawn.amount
    happened = arrived_us - drawn.delay_us
    return {**row, "event_id": f"e{number}", "event_type": drawn.event_type, "event_timestamp": happened}


def _filled() -> dict[str, Any]:
    """Some valid value of every field that is not an id or a time."""
    by_type = {"string": "tehran", "integer": 900, "number": 1.5, "boolean": True}
    values = {f.name: f.enum[0] if f.enum else by_type[f.json_type] for f in CATALOGUE.fields.values()}
    entities = {f"{kind}_id" for kind in ENTITY_KINDS}
    return {name: value for name, value in values.items() if name not in entities} | {"attempt": 1}


_FILLED = _filled()
