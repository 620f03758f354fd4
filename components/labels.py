"""Who says what was fraud, and what a set of labels must have before anything learns from it."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from components.errors import TooFewLabels
from feature_repo.labels import LABEL_SOURCES

__all__ = ["LABEL_SOURCES", "check_classes"]


def check_classes(frame: pd.DataFrame, splits: Iterable[str]) -> None:
    """Every one of the splits must hold fraud and honest events.

    Args:
        frame: with split and y (1.0, 0.0, NaN where unknown).
        splits: names of splits.

    Raises:
        TooFewLabels: one does not; the message has its counts and, where it is empty, says so.
    """
    for split in splits:
        rows = frame.loc[frame["split"] == split, "y"]
        fraud, honest = int((rows == 1.0).sum()), int((rows == 0.0).sum())
        if not len(rows):
            raise TooFewLabels(f"split {split!r} has no events: a week may be missing; ingest it or move the cutoff")
        if not fraud or not honest:
            raise TooFewLabels(
                f"split {split!r} has {fraud} fraud and {honest} honest events: wait for labels or widen the dataset"
            )
