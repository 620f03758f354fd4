"""Which events count as fraud, as honest, or not at all, and which split each belongs to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field

from components.build_training_set.maturation import is_mature, maturation_windows, resolve_labels
from components.errors import TooFewLabels
from components.labels import check_classes
from feature_repo.datasets import Dataset
from feature_repo.event_schemas import SCORED_EVENT_TYPES
from feature_repo.historical import training_frame
from inference_services.policy_settings import DEFAULT_MATURATION

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


def label_events(
    events: pd.DataFrame, labels: pd.DataFrame, cutoff: date, days_by_typology: Mapping[str, int]
) -> pd.DataFrame:
    """Adds y and typology to events.

    An unlabelled event is honest only once it is so old that a complaint would have come; before that nobody knows.

    Args:
        events: with event_id, event_type and event_timestamp (UTC).
        labels: see `resolve_labels`; those of events that are not among `events` are passed over.
        cutoff: the day from which on nothing is known.
        days_by_typology: age, in days before the cutoff, at which silence counts as honest; see `maturation_windows`.

    Returns:
        `events` with y (1.0, 0.0, NaN where unknown) and typology.
    """
    verdicts = resolve_labels(labels, pd.Timestamp(cutoff, tz="UTC"))
    y = events["event_id"].map(verdicts["y"])
    windows = maturation_windows(events, verdicts, days_by_typology)
    y = y.where(y.notna() | ~is_mature(events, windows, cutoff), 0.0)
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


def build(
    dataset: Dataset,
    work_dir: Path,
    days_by_typology: Mapping[str, int],
    settings: SplitSettings,
    progress: Callable[[int, int], None] | None = None,
) -> pd.DataFrame:
    """The training set: one row per scored event in stream order.

    The splits end where the slowest event type is mature, so that each of their rows is, and every type is in all.

    Args:
        dataset: the dataset.
        work_dir: see `training_frame`.
        days_by_typology: see `label_events`.
        settings: how the days are divided.
        progress: called with (feature files written, files in all).

    Returns:
        event_id, event_timestamp, stream_seq, `MODEL_FEATURES`, rider_id, y, typology, split.

    Raises:
        TooFewLabels: the dataset is too short, or a split lacks fraud or honest events.
    """
    longest = _longest_window(dataset, days_by_typology)
    splits = split_days(dataset.first_day, dataset.cutoff, longest, settings)
    # The features have no name of their own: of a million events each copy is a gigabyte.
    rows = label_events(
        training_frame(dataset.path, work_dir, progress), dataset.label_frame(), dataset.cutoff, days_by_typology
    )
    riders = dataset.event_table(["event_id", "rider_id"]).to_pandas().set_index("event_id")["rider_id"]
    frame = rows.assign(rider_id=rows["event_id"].map(riders), split=splits.of(rows["event_timestamp"]))
    check_classes(frame, SPLITS)
    return frame


def _longest_window(dataset: Dataset, days_by_typology: Mapping[str, int]) -> int:
    """The window of the event type that is mature last, days."""
    events = dataset.event_table(["event_id", "event_type"]).to_pandas()
    scored = events[events["event_type"].isin(SCORED_EVENT_TYPES)]
    verdicts = resolve_labels(dataset.label_frame(), pd.Timestamp(dataset.cutoff, tz="UTC"))
    windows = maturation_windows(scored, verdicts, days_by_typology)
    return max(windows.values(), default=days_by_typology[DEFAULT_MATURATION])
