"""What the check has done in the environment that has Spark.

    python -m tests.checks.scale_spark materialize UNTIL
    python -m tests.checks.scale_spark join ROWS OUT

The settings are those of the environment, as for every command.
"""

from __future__ import annotations

import sys
from datetime import datetime
from pathlib import Path

import pandas as pd
from feast import FeatureStore

from feature_repo.materialize import materialize
from feature_repo.services import TRAINING_SERVICE
from feature_repo.settings import FeatureSettings


def join(store: FeatureStore, rows: Path) -> pd.DataFrame:
    """What LightGBM is trained from, for the entity rows of a parquet file, by event."""
    service = store.get_feature_service(TRAINING_SERVICE)
    found: pd.DataFrame = store.get_historical_features(pd.read_parquet(rows), service).to_df()
    # Spark's frame gives the instants of its session's time zone, UTC, without naming it.
    found["event_timestamp"] = pd.to_datetime(found["event_timestamp"], utc=True)
    return found.sort_values("event_id", ignore_index=True)


def cells_that_differ(ours: pd.DataFrame, theirs: pd.DataFrame) -> int:
    """How many values are not equal, absent ones being equal; all of them when rows or columns are not the same."""
    if set(ours.columns) != set(theirs.columns) or ours["event_id"].tolist() != theirs["event_id"].tolist():
        return ours.size
    theirs = theirs[ours.columns]
    return int((~((ours == theirs) | (ours.isna() & theirs.isna()))).to_numpy().sum())


if __name__ == "__main__":
    task, *arguments = sys.argv[1:]
    if task == "materialize":
        materialize(FeatureSettings(), datetime.fromisoformat(arguments[0]))
    else:
        rows, out = map(Path, arguments)
        join(FeatureStore(config=FeatureSettings().store_config()), rows).to_parquet(out)
