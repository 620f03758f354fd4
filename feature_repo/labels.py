"""The label log: who said what was fraud, and when, in day partitions of parquet by the day of observation."""

from __future__ import annotations

from datetime import UTC, date, datetime, time
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from feature_repo.errors import CorruptValue
from feature_repo.event_log import MICROSECONDS, log_days, read_parquet

# The most trusted first; a later source is read only where no earlier one spoke.
LABEL_SOURCES = ("chargeback", "audit", "holdout", "reviewer")
LABEL_COLUMNS = pa.schema(
    {
        "event_id": pa.string(),
        "is_fraud": pa.bool_(),
        "source": pa.string(),
        "observed_at": MICROSECONDS,
    }
)


def no_labels() -> pa.Table:
    """The labels of a company that has none yet."""
    return LABEL_COLUMNS.empty_table()


def read_labels(folder: Path, *, before: date | None = None) -> pa.Table:
    """Reads a label log; no rows where the folder is empty or missing.

    Args:
        folder: folder of `day=*/*.parquet`.
        before: leave out what was observed on this UTC day or later: a log may hold what nobody can know yet.

    Returns:
        The columns of `LABEL_COLUMNS`.

    Raises:
        CorruptValue: a file cannot be read, or lacks a column.
    """
    days = [d for d in log_days(folder) if before is None or d < before]
    files = sorted(f for d in days for f in (folder / f"day={d}").glob("[!.]*.parquet"))
    labels = pa.concat_tables([no_labels(), *map(_read, files)])
    if before is None:
        return labels
    midnight = pa.scalar(datetime.combine(before, time(), UTC), MICROSECONDS)
    return labels.filter(pc.less(labels.column("observed_at"), midnight))


def _read(file: Path) -> pa.Table:
    table = read_parquet(file)
    missing = [name for name in LABEL_COLUMNS.names if name not in table.column_names]
    if missing:
        raise CorruptValue(f"{file} holds no labels: it has no column {', '.join(missing)}")
    try:
        return table.select(LABEL_COLUMNS.names).cast(LABEL_COLUMNS)
    except pa.ArrowException as error:
        raise CorruptValue(f"{file} holds no labels: {error}") from error
