"""What a dataset must be before anything learns from it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import date

import pandas as pd
import pyarrow as pa

from components.errors import InvalidDataset
from components.frame_checks import check_frame
from components.validate_events.schema import HIDDEN, event_frame, event_schema, label_schema, log_schema
from components.volumes import Comparison, Volumes, VolumeSettings, compare_volumes
from feature_repo.datasets import Dataset, previous_dataset
from feature_repo.event_schemas import EVENT_TYPES

# A day far below the median means a lost partition; the quietest day of a city's year is well above this.
_LEAST_SHARE_OF_MEDIAN_DAY = 0.2
# Fraud above this share of all events is a broken label feed, not a bad month.
_MOST_FRAUD_SHARE = 0.2
# An event can arrive after its label, but not many do.
_MOST_UNKNOWN_SHARE = 0.05


@dataclass(frozen=True)
class Report:
    """What was found in a valid dataset.

    Attributes:
        sha256: content of the dataset, recomputed.
        days: arrival days.
        events: events.
        labels: labels by source.
        fraud_labels: labels that say fraud.
        unknown_events: labels of events that are not in the log; they teach nothing.
        contradicted_events: events that one label calls fraud and another honest; the more trusted source decides.
        volumes: what the volumes were compared with.
    """

    sha256: str
    days: int
    events: int
    labels: dict[str, int]
    fraud_labels: int
    unknown_events: int
    contradicted_events: int
    volumes: str

    def as_dict(self) -> dict[str, object]:
        """The fields by name."""
        return asdict(self)


def check_dataset(dataset: Dataset, settings: VolumeSettings) -> Report:
    """Checks the bytes, the schema, the volumes and the labels of a dataset.

    Args:
        dataset: the dataset.
        settings: how far its volumes may be from those of the dataset before it, among its neighbours.

    Raises:
        CorruptValue: the bytes are not those of the snapshot.
        InvalidDataset: a check failed; the message names the column, the rule and a row, or the day.
    """
    dataset.verify()
    events, labels = dataset.event_table(), dataset.label_frame()
    check_schema(events)
    daily = check_volumes(events, dataset.first_day, dataset.last_day)
    compared = check_against_previous(dataset, settings)
    unknown = check_labels(labels, events, dataset.cutoff)
    sources = {str(name): int(n) for name, n in labels["source"].value_counts().sort_index().items()}
    return Report(
        sha256=dataset.sha256,
        days=len(daily),
        events=len(events),
        labels=sources,
        fraud_labels=int(labels["is_fraud"].sum()),
        unknown_events=unknown,
        contradicted_events=int((labels.groupby("event_id")["is_fraud"].nunique() > 1).sum()),
        volumes=compared.text,
    )


def check_schema(events: pa.Table) -> None:
    """Every column is there, and every event fits the schemas that ingestion applied.

    Raises:
        InvalidDataset: a column is missing, or an event breaks its schema.
    """
    frame = event_frame(events)
    check_frame(frame, log_schema(), InvalidDataset, hidden=HIDDEN)
    for event_type in EVENT_TYPES:
        check_frame(frame[frame["event_type"] == event_type], event_schema(event_type), InvalidDataset, hidden=HIDDEN)


def check_against_previous(dataset: Dataset, settings: VolumeSettings) -> Comparison:
    """Events by type and day, against the dataset before.

    Raises:
        InvalidDataset: there are far fewer or far more.
    """
    before = previous_dataset(dataset)
    compared = compare_volumes(
        _whole_days(dataset),
        _whole_days(before) if before else None,
        settings,
        unit="event_type",
        previous_name=f"dataset {before.sha12}" if before else "",
    )
    if compared.breaches:
        raise InvalidDataset(f"events, {compared.text}: " + "; ".join(compared.breaches))
    return compared


def _whole_days(dataset: Dataset) -> Volumes:
    """All days but the last, which the snapshot may have cut short."""
    return {(group, day): rows for (group, day), rows in dataset.volumes().items() if day < dataset.last_day}


def check_volumes(events: pa.Table, first_day: date, last_day: date) -> pd.Series:
    """Events by arrival day, none missing and none far below the median.

    Raises:
        InvalidDataset: a day has too few events.
    """
    arrived: pd.Series = events.column("ingested_at").to_pandas()
    every_day = pd.date_range(first_day, last_day, freq="D", tz="UTC")
    daily: pd.Series = arrived.dt.floor("D").value_counts().reindex(every_day, fill_value=0)
    least = _LEAST_SHARE_OF_MEDIAN_DAY * float(daily.median())
    # The last day may be cut short by the snapshot.
    for day, count in daily.iloc[:-1].items():
        if not count or count < least:
            raise InvalidDataset(
                f"events: {count} arrived on {day:%Y-%m-%d}, the median day has {daily.median():.0f}: "
                "column 'ingested_at' lacks a day; ingest it again"
            )
    return daily


def check_labels(labels: pd.DataFrame, events: pa.Table, cutoff: date) -> int:
    """Labels name known events, known sources, come after their event and before the cutoff.

    Returns:
        How many name events that are not in the log: a few may, for an event can arrive after its label.

    Raises:
        InvalidDataset: a column breaks a rule.
    """
    check_frame(labels, label_schema(pd.Timestamp(cutoff, tz="UTC")), InvalidDataset)
    happened = events.select(["event_id", "event_timestamp"]).to_pandas().set_index("event_id")["event_timestamp"]
    early = labels["observed_at"] < labels["event_id"].map(happened)
    if early.any():
        raise InvalidDataset(f"labels: column 'observed_at' lies before its event in {int(early.sum())} labels")
    strangers = ~labels["event_id"].isin(happened.index)
    if strangers.mean() > _MOST_UNKNOWN_SHARE:
        raise InvalidDataset(
            f"labels: column 'event_id' names {int(strangers.sum())} events that are not in the log, of {len(labels)}: "
            "a day of events may be missing, or the ids were made with another key"
        )
    fraud = int(labels["is_fraud"].sum())
    if not fraud:
        raise InvalidDataset(
            f"labels: column 'is_fraud' says fraud 0 times in {len(labels)} labels: wait for some, or mend the feed"
        )
    if fraud > _MOST_FRAUD_SHARE * len(events):
        raise InvalidDataset(
            f"labels: column 'is_fraud' says fraud {fraud} times in {len(events)} events, more than "
            f"{_MOST_FRAUD_SHARE:.0%} of them: the feed is broken"
        )
    return int(strangers.sum())
