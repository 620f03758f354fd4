"""How long silence about an event must last before it counts as honest.

Which fraud an unlabelled event might be is unknown, so nobody can look up its window. But complaints so far show which
typologies strike events of its type, and the slowest of these decides.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date

import pandas as pd

from components.labels import LABEL_SOURCES
from inference_services.policy_settings import DEFAULT_MATURATION


def resolve_labels(labels: pd.DataFrame, cutoff: pd.Timestamp) -> pd.DataFrame:
    """One verdict for each labelled event: the most trusted source's, its latest word, at one instant the graver.

    Args:
        labels: event_id, is_fraud, typology, source, observed_at.
        cutoff: labels observed at this instant or later do not exist yet.

    Returns:
        event_id (index), y (1.0 or 0.0), typology (None where honest).
    """
    known = labels[labels["observed_at"] < cutoff]
    keys = known.assign(
        is_fraud=known["is_fraud"].astype(bool),
        _rank=known["source"].map({name: i for i, name in enumerate(LABEL_SOURCES)}),
    )
    order = keys.sort_values(["_rank", "observed_at", "is_fraud"], ascending=[True, False, False], kind="stable")
    first = order.drop_duplicates("event_id").set_index("event_id")
    return pd.DataFrame({"y": first["is_fraud"].astype(float), "typology": first["typology"].where(first["is_fraud"])})


def maturation_windows(
    events: pd.DataFrame, verdicts: pd.DataFrame, days_by_typology: Mapping[str, int]
) -> dict[str, int]:
    """The window of each event type: the longest among the typologies that confirmed labels have shown on it.

    Args:
        events: with event_id and event_type.
        verdicts: see `resolve_labels`; of events that are not among `events` they say nothing.
        days_by_typology: days, by typology, and "default" for the others and for a fraud of no named typology.

    Returns:
        Days by event type, of every type in `events`; the default where no fraud is confirmed.
    """
    default = days_by_typology[DEFAULT_MATURATION]
    fraud = verdicts[verdicts["y"] == 1.0]
    struck = events.loc[events["event_id"].isin(fraud.index), ["event_id", "event_type"]]
    days = struck["event_id"].map(fraud["typology"]).map(dict(days_by_typology)).fillna(default)
    longest = days.groupby(struck["event_type"].to_numpy()).max()
    return {str(name): int(longest.get(name, default)) for name in sorted(events["event_type"].unique())}


def is_mature(events: pd.DataFrame, windows: Mapping[str, int], cutoff: date) -> pd.Series:
    """Whether silence about an event has lasted through its type's window, bool of shape [n].

    Args:
        events: with event_type and event_timestamp (UTC).
        windows: days by event type; see `maturation_windows`.
        cutoff: the day from which on nothing is known.
    """
    window = pd.to_timedelta(events["event_type"].map(dict(windows)), unit="D")
    mature: pd.Series = events["event_timestamp"] < pd.Timestamp(cutoff, tz="UTC") - window
    return mature
