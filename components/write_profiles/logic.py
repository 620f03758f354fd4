"""Batch features of the days that are over."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from feature_repo import batch_features
from feature_repo.event_log import read_log


def write_profiles(events: Path, cutoff: datetime, out: Path) -> int:
    """Writes `<kind>_profile.parquet` and `city_profile.parquet`: every row published by `cutoff`.

    Args:
        events: event log, a folder of day=*/*.parquet.
        cutoff: aware instant. Rows are published at midnight UTC for the day before, so a day that has not ended by
            then is left out whole.
        out: folder for the files, created.

    Returns:
        How many events the features are made of.

    Raises:
        MissingData: nothing had arrived on any day that is over.
        CorruptValue: a file of the log cannot be read.
    """
    log = read_log(events, before=cutoff.astimezone(UTC).date())
    batch_features.write_profiles(log, out)
    return len(log)
