"""Whether honest life keeps its ranges over the months."""

from __future__ import annotations

import numpy as np
import pandas as pd

from feature_repo.event_schemas import SCORED_EVENT_TYPES
from pipelines.report import Row
from tests.checks.measures import stability_index
from tests.checks.raw_fields import FIELDS, field

MONTH_DAYS = 30
# A rule of thumb of credit scoring: above it a population is said to have moved.
MOST_MOVED = 0.25
_LEAST_EVENTS = 300  # fewer make an index of their own noise


def marginal_rows(events: pd.DataFrame) -> list[Row]:
    """The field of each event type that moves most between any month and the first, among honest events.

    Args:
        events: at least two months of raw events, with the truth and `day`.
    """
    honest = events[~events["is_fraud"]]
    rows = []
    for event_type in SCORED_EVENT_TYPES:
        part = honest[honest["event_type"] == event_type]
        month = part["day"].to_numpy() // MONTH_DAYS
        moved = {name: _most_moved(field(part, name), month) for name in FIELDS if name != "weekday"}
        worst = max(moved, key=lambda name: moved[name])
        value = moved[worst]
        title = f"{event_type}: field that moves most over the months, {worst}"
        rows.append(Row(title, value, "PSI", f"below {MOST_MOVED}", value < MOST_MOVED))
    return rows


def _most_moved(values: np.ndarray, month: np.ndarray) -> float:
    if values.dtype == object:
        values = pd.factorize(values, sort=True)[0].astype(float)
    known = np.isfinite(values)
    by_month = [values[known & (month == m)] for m in range(int(month.max()) + 1)]
    by_month = [part for part in by_month if len(part) >= _LEAST_EVENTS]
    return max((stability_index(by_month[0], part) for part in by_month[1:]), default=0.0)
