"""Batch features of the days that are over."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from pathlib import Path

from feature_repo import batch_features
from feature_repo.event_log import read_log
from feature_repo.labels import read_labels

logger = logging.getLogger(__name__)


def write_profiles(events: Path, labels: Path, cutoff: datetime, out: Path) -> int:
    """Writes `<kind>_profile.parquet` and `city_profile.parquet`: every row published by `cutoff`.

    Args:
        events: event log, a folder of day=*/*.parquet.
        labels: label log, laid out alike. It may hold labels observed later than the cutoff: they are left out. Where
            it is empty or missing, nobody has a confirmed fraud.
        cutoff: aware instant. Rows are published at midnight UTC for the day before, so a day that has not ended by
            then is left out whole.
        out: folder for the files, created.

    Returns:
        How many events the features are made of.

    Raises:
        MissingData: nothing had arrived on any day that is over.
        CorruptValue: a file of a log cannot be read.
    """
    today = cutoff.astimezone(UTC).date()
    log, known = read_log(events, before=today), read_labels(labels, before=today)
    if not len(known):
        logger.warning("no labels observed before %s in %s: nobody has a confirmed fraud", today, labels)
    batch_features.write_profiles(log, known, out)
    return len(log)
