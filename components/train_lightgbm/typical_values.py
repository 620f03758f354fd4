"""What honest events look like: percentiles of every number that the trees read, for the comparison in reasons."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd

from feature_repo.event_schemas import SCORED_EVENT_TYPES
from feature_repo.feature_names import CATEGORICAL_FEATURES, MODEL_FEATURES
from inference_services.typical_values import FILE, QUANTILES

# Percentiles of so many events are exact enough to be read aloud, whatever the size of the training set.
_MOST_EVENTS = 20_000
# Fewer honest events of a type give no 95th percentile worth the name: such a type is compared with all.
_FEWEST_EVENTS = 100
_NUMERIC = [name for name in MODEL_FEATURES if name not in CATEGORICAL_FEATURES]


def write_typical_values(folder: Path, frame: pd.DataFrame) -> None:
    """Writes `typical_values.json` of a training set into a bundle's folder."""
    (folder / FILE).write_text(json.dumps(typical_values(frame)) + "\n")


def typical_values(frame: pd.DataFrame) -> dict[str, Any]:
    """The percentiles of the split "train"'s honest events, of all types and of each type that has enough.

    An event counts, not a rider: who rides often weighs more, as among the events that are scored. Of more events than
    20,000 the newest count. A feature that no event has is left out.

    Returns:
        {"quantiles": [...], "all": {"events": n, "values": {feature: [...]}}, "event_types": {type: the same}}.
    """
    honest = frame[(frame["split"] == "train") & (frame["y"] == 0)]
    by_type = {name: honest[honest["event_type"] == name] for name in SCORED_EVENT_TYPES}
    return {
        "quantiles": QUANTILES,
        "all": _percentiles(honest),
        "event_types": {name: _percentiles(rows) for name, rows in by_type.items() if len(rows) >= _FEWEST_EVENTS},
    }


def _percentiles(events: pd.DataFrame) -> dict[str, Any]:
    newest = events.sort_values("stream_seq")[_NUMERIC].tail(_MOST_EVENTS)
    found = newest.quantile(list(QUANTILES)).dropna(axis="columns")
    values = {name: [float(f"{value:.6g}") for value in found[name]] for name in found}
    return {"events": len(newest), "values": values}
