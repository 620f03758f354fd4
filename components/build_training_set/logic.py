"""Which events count as fraud, as honest, or not at all, and which split each belongs to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field

from components.errors import TooFewLabels
from components.labels import LABEL_SOURCES
from feature_repo.datasets import Dataset
from feature_repo.historical import training_frame

HELD_OUT_SPLITS = ("valid", "calibrate", "test")
SPLITS = ("train", *HELD_OUT_SPLITS)
NO_SPLIT = "none"


class SplitSettings(BaseModel):
    """How the days are divided."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    warm_up_days: int = Field(3, ge=0, description="First days left out: their windows have not filled yet.")
    train_share: float = Field(0.65, gt=0, lt=1, description="Share of the usable days to train on; the rest in three.")


@dataclass(frozen=True)
class Splits:
    """Days in order: train, valid, calibrate, test.

    Attributes:
        days: the UTC days of each split.
    """

    days: dict[str, list[date]]

    def of(self, event_timestamp: pd.Series) -> pd.Series:
        """The split of each event by its UTC day, "none" outside of all."""
        by_day = {day: split for split, days in self.days.items() for day in days}
        split: pd.Series = event_timestamp.dt.date.map(by_day).fillna(NO_SPLIT)
        return split


def resolve_labels(labels: pd.DataFrame, cutoff: pd.Timestamp) -> pd.DataFrame:
    """One verdict for each labelled event: the most trusted source's, its latest word.

    Args:
        labels: event_id, is_fraud, typology, source, observed_at.
        cutoff: labels observed at this instant or later do not exist yet.

    Returns:
        event_id (index), y (1.0 or 0.0), typology (None where honest).
    """
    known = labels[labels["observed_at"] < cutoff]
    rank = known["source"].map({name: i for i, name in enumerate(LABEL_SOURCES)})
    order = known.assign(_rank=rank).sort_values(["_rank", "observed_at"], ascending=[True, False], kind="stable")
    first = order.drop_duplicates("event_id").set_index("event_id")
    return pd.DataFrame({"y": first["is_fraud"].astype(float), "typology": first["typology"].where(first["is_fraud"])})


def label_events(events: pd.DataFrame, labels: pd.DataFrame, cutoff: date, maturation_days: int) -> pd.DataFrame:
    """Adds y and typology to events.

    An unlabelled event is honest only once it is so old that a complaint would have come; before that nobody knows.

    Args:
        events: with event_id and event_timestamp (UTC).
        labels: see `resolve_labels`.
        cutoff: the day from which on nothing is known.
        maturation_days: age, in days before the cutoff, at which silence counts as honest.

    Returns:
        `events` with y (1.0, 0.0, NaN where unknown) and typology.
    """
    now = pd.Timestamp(cutoff, tz="UTC")
    verdicts = resolve_labels(labels, now)
    y = events["event_id"].map(verdicts["y"])
    mature = events["event_timestamp"] < now - pd.Timedelta(days=maturation_days)
    y = y.where(y.notna() | ~mature, 0.0)
    return events.assign(y=y.astype(float), typology=events["event_id"].map(verdicts["typology"]))


def split_days(first_day: date, cutoff: date, maturation_days: int, settings: SplitSettings) -> Splits:
    """Divides the mature days after the warm-up into train, valid, calibrate and test, in this order.

    Raises:
        TooFewLabels: fewer than four days are usable.
    """
    start = first_day + timedelta(days=settings.warm_up_days)
    usable = (cutoff - timedelta(days=maturation_days) - start).days
    if usable < len(SPLITS):
        raise TooFewLabels(
            f"{max(usable, 0)} usable days between the warm-up ({settings.warm_up_days} days from {first_day}) and the "
            f"label maturation ({maturation_days} days before {cutoff}); 4 are needed: use a longer dataset"
        )
    held_out = max(1, round(usable * (1 - settings.train_share) / len(HELD_OUT_SPLITS)))
    sizes = [usable - held_out * len(HELD_OUT_SPLITS), *[held_out] * len(HELD_OUT_SPLITS)]
    ends = np.cumsum(sizes)
    every = [start + timedelta(days=i) for i in range(usable)]
    return Splits({name: every[end - size : end] for name, size, end in zip(SPLITS, sizes, ends, strict=True)})


def check_splits(frame: pd.DataFrame) -> None:
    """Every split must hold fraud and honest events.

    Raises:
        TooFewLabels: one does not.
    """
    for split in SPLITS:
        counts = frame.loc[frame["split"] == split, "y"].value_counts()
        fraud, honest = int(counts.get(1.0, 0)), int(counts.get(0.0, 0))
        if not fraud or not honest:
            raise TooFewLabels(
                f"split {split!r} has {fraud} fraud and {honest} honest events: wait for labels or widen the dataset"
            )


def build(
    dataset: Dataset,
    work_dir: Path,
    maturation_days: int,
    settings: SplitSettings,
    progress: Callable[[int, int], None] | None = None,
) -> pd.DataFrame:
    """The training set: one row per scored event in stream order.

    Returns:
        event_id, event_timestamp, stream_seq, `MODEL_FEATURES`, rider_id, y, typology, split.

    Raises:
        TooFewLabels: the dataset is too short, or a split lacks fraud or honest events.
    """
    splits = split_days(dataset.first_day, dataset.cutoff, maturation_days, settings)
    # The features have no name of their own: of a million events each copy is a gigabyte.
    rows = label_events(
        training_frame(dataset.path, work_dir, progress), dataset.label_frame(), dataset.cutoff, maturation_days
    )
    riders = dataset.event_table(["event_id", "rider_id"]).to_pandas().set_index("event_id")["rider_id"]
    frame = rows.assign(rider_id=rows["event_id"].map(riders), split=splits.of(rows["event_timestamp"]))
    check_splits(frame)
    return frame
