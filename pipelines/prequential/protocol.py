"""Who may know what, and when: refits, what each learns from, and what it is judged on. Days are days of arrival."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import pandas as pd

from components.build_training_set.logic import NO_SPLIT, label_events
from components.build_training_set.maturation import maturation_windows, resolve_labels
from inference_services.policy_settings import DEFAULT_MATURATION, ThresholdSettings
from pipelines.errors import StepError
from pipelines.prequential.settings import PrequentialSettings

WEEK = timedelta(days=7)
LEARNT_FROM = ("train", "valid", "calibrate")


@dataclass(frozen=True)
class Refit:
    """Models fitted with what was known at a midnight UTC, and judged until the next.

    Attributes:
        cutoff: what arrived or was observed on this day or later is not known.
        until: the first day that is not judged.
    """

    cutoff: date
    until: date

    def weeks(self) -> Iterator[date]:
        """The first day of each week that is judged."""
        day = self.cutoff
        while day < self.until:
            yield day
            day += WEEK


def midnight(day: date) -> pd.Timestamp:
    """The first instant of a day, UTC."""
    return pd.Timestamp(day, tz="UTC")


def longest_window(events: pd.DataFrame, labels: pd.DataFrame, cutoff: date, policy: ThresholdSettings) -> int:
    """Days after which silence about any event counts as honest, by the labels that a cutoff knows."""
    days = policy.label_maturation_days
    windows = maturation_windows(events, resolve_labels(labels, midnight(cutoff)), days)
    return max(windows.values(), default=days[DEFAULT_MATURATION])


def plan(first_day: date, end: date, settings: PrequentialSettings) -> list[Refit]:
    """The refits of the last weeks before `end`, in order.

    Args:
        first_day: of the dataset.
        end: the first day that cannot be judged.
        settings: weeks, and how often to refit.

    Raises:
        StepError: the dataset is too short for them.
    """
    step = settings.refit_every * WEEK
    start = end - settings.weeks * WEEK
    found = []
    while start < end:
        found.append(Refit(start, min(start + step, end)))
        start += step
    least = timedelta(days=settings.warm_up_days + settings.held_out_days + 1)
    if found[0].cutoff - first_day < least:
        raise StepError(
            f"{settings.weeks} weeks to judge before {end} leave {max((found[0].cutoff - first_day).days, 0)} days to "
            f"learn from; at least {least.days} and the labels' maturation are needed: use a longer dataset or --weeks"
        )
    return found


def splits_before(first_day: date, settled: date, settings: PrequentialSettings) -> dict[str, tuple[date, date]]:
    """First day and end of "train", "valid" and "calibrate": the last settled days, in this order.

    Args:
        first_day: of the dataset.
        settled: the first day whose labels cannot be relied on.
        settings: how long each is.

    Raises:
        StepError: no day is left to train on.
    """
    calibrate = settled - timedelta(days=settings.calibrate_days)
    valid = calibrate - timedelta(days=settings.valid_days)
    warm = first_day + timedelta(days=settings.warm_up_days)
    start = max(warm, settled - timedelta(days=settings.history_days))
    if start >= valid:
        least = settings.warm_up_days + settings.held_out_days + 1
        raise StepError(
            f"no day to train on: {max((settled - first_day).days, 0)} days from {first_day} on have settled labels by "
            f"then, and at least {least} are needed to warm up, to train and to hold out: use a longer dataset"
        )
    return {"train": (start, valid), "valid": (valid, calibrate), "calibrate": (calibrate, settled)}


def as_known(frame: pd.DataFrame, labels: pd.DataFrame, day: date, policy: ThresholdSettings) -> pd.DataFrame:
    """What was known at a midnight: the events that had arrived, with y and typology as the labels then said.

    Args:
        frame: events with event_id, event_type, event_timestamp and arrived.
        labels: all labels; those observed later are not looked at.
        day: the midnight.
        policy: how long silence must last.
    """
    arrived = frame[frame["arrived"] < midnight(day)]
    return label_events(arrived, labels, day, policy.label_maturation_days)


def to_learn_from(
    frame: pd.DataFrame,
    labels: pd.DataFrame,
    refit: Refit,
    first_day: date,
    *,
    policy: ThresholdSettings,
    settings: PrequentialSettings,
) -> pd.DataFrame:
    """The labelled events of a refit with y, typology and split; see `as_known`."""
    known = as_known(frame, labels, refit.cutoff, policy)
    settled = refit.cutoff - timedelta(days=longest_window(known, labels, refit.cutoff, policy))
    return _divided(known, splits_before(first_day, settled, settings))


def to_learn_from_truth(
    frame: pd.DataFrame, truth: pd.DataFrame, refit: Refit, first_day: date, settings: PrequentialSettings
) -> pd.DataFrame:
    """The same with clean labels and no delay: what no real company has.

    Args:
        frame: as for `as_known`.
        truth: event_id, is_fraud, typology.
        refit: when.
        first_day: of the dataset.
        settings: how long each split is.
    """
    known = with_truth(frame[frame["arrived"] < midnight(refit.cutoff)], truth)
    return _divided(known, splits_before(first_day, refit.cutoff, settings))


def with_truth(frame: pd.DataFrame, truth: pd.DataFrame) -> pd.DataFrame:
    """Events with y and typology as they are; an event that the truth does not name is honest."""
    typology = truth[truth["is_fraud"]].set_index("event_id")["typology"]
    fraud = frame["event_id"].isin(typology.index)
    return frame.assign(y=fraud.astype(float), typology=frame["event_id"].map(typology))


def _divided(known: pd.DataFrame, splits: dict[str, tuple[date, date]]) -> pd.DataFrame:
    arrived = known["arrived"]
    within = [(arrived >= midnight(start)) & (arrived < midnight(end)) for start, end in splits.values()]
    split = np.select(within, list(splits), NO_SPLIT)
    found = known.assign(split=split)
    return found[(found["split"] != NO_SPLIT) & found["y"].notna()].reset_index(drop=True)


def judged(frame: pd.DataFrame, refit: Refit) -> pd.DataFrame:
    """The events that arrived in the weeks of a refit."""
    arrived = frame["arrived"]
    return frame[(arrived >= midnight(refit.cutoff)) & (arrived < midnight(refit.until))].reset_index(drop=True)
