"""Our offline store joins what Feast's own DuckDB store joins."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from feast import FeatureStore, FeatureView, Field, FileSource, RepoConfig
from feast.types import Int64
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from feature_repo.asof_store import ASOF_STORE
from feature_repo.batch_features import write_batch_features
from feature_repo.entities import RIDER
from feature_repo.event_log import read_log
from feature_repo.event_schemas import SCORED_EVENT_TYPES
from feature_repo.labels import read_labels
from feature_repo.services import TRAINING_SERVICE
from tests.offline_stores import entity_rows, offline_store

NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)
Rows = list[tuple[str, int]]


def test_a_training_set_is_feasts(small_log: Path, small_world: Path, tmp_path: Path) -> None:
    log = read_log(small_log)
    write_batch_features(log, read_labels(small_world / "labels"), tmp_path / "files")
    scored = log.filter(pc.is_in(log["event_type"], value_set=pa.array(SCORED_EVENT_TYPES)))
    rows = entity_rows(scored).sample(frac=1, random_state=1)

    def joined(kind: str) -> pd.DataFrame:
        store = offline_store(kind, tmp_path / "files", tmp_path / f"{len(kind)}.db")
        return store.get_historical_features(rows.copy(), store.get_feature_service(TRAINING_SERVICE)).to_df()

    ours, theirs = joined(ASOF_STORE), joined("duckdb")
    assert ours["event_id"].tolist() == rows["event_id"].tolist()
    assert ours["rider_lifetime_trips"].isna().any()
    assert (ours["rider_confirmed_frauds"] > 0).sum() > 3
    pd.testing.assert_frame_equal(
        ours.sort_values("stream_seq", ignore_index=True),
        theirs.sort_values("stream_seq", ignore_index=True),
        check_exact=True,
    )


def rider_store(folder: Path, published: Rows, ttl: timedelta = timedelta(0), kind: str = ASOF_STORE) -> FeatureStore:
    """A store with one view of riders: each published row's value is its position."""
    path = folder / "riders.parquet"
    at = pa.array([NOON + timedelta(minutes=m) for _, m in published], pa.timestamp("us", "UTC"))
    ids = pa.array([rider for rider, _ in published], pa.string())
    pq.write_table(pa.table({"rider_id": ids, "event_timestamp": at, "position": range(len(published))}), path)
    source = FileSource(path=str(path), timestamp_field="event_timestamp")
    view = FeatureView(name="riders", entities=[RIDER], schema=[Field(name="position", dtype=Int64)], source=source)
    view.ttl = ttl
    registry = folder / "riders.db"
    registry.unlink(missing_ok=True)
    config = RepoConfig(
        project="test",
        provider="local",
        registry=str(registry),
        offline_store={"type": kind},
        online_store=None,
        entity_key_serialization_version=3,
    )
    store = FeatureStore(config=config)
    store.apply([RIDER, view])
    return store


def positions(store: FeatureStore, asked: Rows) -> list[int | None]:
    rows = pd.DataFrame(
        {
            "rider_id": [rider for rider, _ in asked],
            "event_timestamp": pd.to_datetime([NOON + timedelta(minutes=m) for _, m in asked], utc=True),
            "row": range(len(asked)),
        }
    )
    found = store.get_historical_features(rows, ["riders:position"]).to_df().sort_values("row")
    return [None if pd.isna(value) else int(value) for value in found["position"]]


events = st.tuples(st.sampled_from(["a", "b", ""]), st.integers(-5, 5))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(events, unique=True, min_size=1, max_size=12), st.lists(events, min_size=1, max_size=12))
def test_a_row_sees_the_latest_value_published_by_then(tmp_path: Path, published: Rows, asked: Rows) -> None:
    expected = []
    for rider, minute in asked:
        seen = [(m, i) for i, (r, m) in enumerate(published) if r == rider and m <= minute]
        expected.append(max(seen)[1] if seen else None)
    assert positions(rider_store(tmp_path, published), asked) == expected


@pytest.mark.parametrize("kind", [ASOF_STORE, "duckdb"])
def test_a_view_that_expires_is_left_to_feast(tmp_path: Path, kind: str) -> None:
    store = rider_store(tmp_path, [("a", 0)], timedelta(minutes=2), kind)
    assert positions(store, [("a", 2), ("a", 3)]) == [0, None]
