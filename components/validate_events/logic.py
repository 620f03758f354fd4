"""What a dataset must be before anything learns from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import date, timedelta

import numpy as np
import pandas as pd
import pyarrow as pa

from components.errors import InvalidDataset
from components.labels import LABEL_SOURCES
from feature_repo.datasets import Dataset
from feature_repo.event_batch import EventBatch
from feature_repo.event_schemas import CATALOGUE
from feature_repo.event_schemas.validation import validate

_LABEL_COLUMNS = ("event_id", "is_fraud", "typology", "source", "observed_at")
# A day far below the median means a lost partition; the quietest day of a city's year is well above this.
_LEAST_SHARE_OF_MEDIAN_DAY = 0.2
# Fraud above this share of all events is a broken label feed, not a bad month.
_MOST_FRAUD_SHARE = 0.2


@dataclass(frozen=True)
class Report:
    """What was found in a valid dataset.

    Attributes:
        sha256: content of the dataset, recomputed.
        days: arrival days.
        events: events.
        labels: labels by source.
        fraud_labels: labels that say fraud.
    """

    sha256: str
    days: int
    events: int
    labels: dict[str, int]
    fraud_labels: int

    def as_dict(self) -> dict[str, object]:
        """The fields by name."""
        return asdict(self)


def check_dataset(dataset: Dataset) -> Report:
    """Checks the bytes, the schema, the volumes and the labels of a dataset.

    Raises:
        CorruptValue: the bytes are not those of the snapshot.
        InvalidDataset: a check failed; the message names the column or day.
    """
    dataset.verify()
    events, labels = dataset.event_table(), dataset.label_frame()
    check_schema(events)
    daily = check_volumes(events, dataset.first_day, dataset.last_day)
    check_labels(labels, events, dataset.cutoff)
    sources = {str(name): int(n) for name, n in labels["source"].value_counts().sort_index().items()}
    return Report(dataset.sha256, len(daily), len(events), sources, int(labels["is_fraud"].sum()))


def check_schema(events: pa.Table) -> None:
    """Every column is there, and every event fits the schemas that ingestion applied.

    Raises:
        InvalidDataset: a column is missing, or an event breaks its schema.
    """
    _require_columns("events", events.column_names, (*CATALOGUE.fields, "stream_seq", "ingested_at"))
    for name in ("stream_seq", "ingested_at", "event_id"):
        if events.column(name).null_count:
            raise InvalidDataset(f"events: column {name!r} has {events.column(name).null_count} empty values")
    sequence = events.column("stream_seq").to_numpy()
    if len(np.unique(sequence)) != len(sequence):
        raise InvalidDataset("events: column 'stream_seq' repeats a number; two ingestions wrote to one log")
    breaches = validate(EventBatch.from_arrow(events))
    if breaches:
        raise InvalidDataset(f"events: {len(breaches)} breaches of the schemas, the first at {breaches[0]}")


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
        if count < least:
            raise InvalidDataset(
                f"events: {count} arrived on {day:%Y-%m-%d}, the median day has {daily.median():.0f}: "
                "column 'ingested_at' lacks a day; ingest it again"
            )
    return daily


def check_labels(labels: pd.DataFrame, events: pa.Table, cutoff: date) -> None:
    """Labels name known events, known sources, come after their event and before the cutoff.

    Raises:
        InvalidDataset: a column breaks a rule.
    """
    _require_columns("labels", labels.columns, _LABEL_COLUMNS)
    for name in ("event_id", "is_fraud", "source", "observed_at"):
        if labels[name].isna().any():
            raise InvalidDataset(f"labels: column {name!r} has {int(labels[name].isna().sum())} empty values")
    unknown = sorted(set(labels["source"]) - set(LABEL_SOURCES))
    if unknown:
        raise InvalidDataset(f"labels: column 'source' has {unknown[0]!r}; known are {', '.join(LABEL_SOURCES)}")
    end = pd.Timestamp(cutoff, tz="UTC")
    late = labels["observed_at"] >= end
    if late.any():
        raise InvalidDataset(f"labels: column 'observed_at' has {int(late.sum())} labels from after {end - _A_TICK}")
    happened = events.select(["event_id", "event_timestamp"]).to_pandas().set_index("event_id")["event_timestamp"]
    early = labels["observed_at"] < labels["event_id"].map(happened)
    if early.any():
        raise InvalidDataset(f"labels: column 'observed_at' lies before its event in {int(early.sum())} labels")
    # An event can arrive after its label, but not many do.
    strangers = ~labels["event_id"].isin(happened.index)
    if strangers.mean() > 0.05:
        raise InvalidDataset(f"labels: column 'event_id' names {int(strangers.sum())} events that are not in the log")
    fraud = int(labels["is_fraud"].sum())
    if not 0 < fraud <= _MOST_FRAUD_SHARE * len(events):
        raise InvalidDataset(f"labels: column 'is_fraud' says fraud {fraud} times in {len(events)} events")


_A_TICK = timedelta(microseconds=1)


def _require_columns(table: str, found: Sequence[str] | pd.Index, needed: Sequence[str]) -> None:
    missing = [name for name in needed if name not in set(found)]
    if missing:
        raise InvalidDataset(f"{table}: column {missing[0]!r} is missing; the dataset is of another schema version")
