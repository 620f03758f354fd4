"""The training frame: Feast's point-in-time join on DuckDB over a dataset's own feature files.

Each dataset is joined in a scratch Feast registry of its own, so that a run can be repeated on exactly its dataset
while the shared registry moves on.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from feature_repo.batch_features import write_batch_features
from feature_repo.datasets import Dataset
from feature_repo.event_batch import EventBatch
from feature_repo.event_schemas import SCORED_EVENT_TYPES
from feature_repo.feature_names import MODEL_FEATURES, PROFILE_KINDS, features_version
from feature_repo.profiles import UNPUBLISHED, profile_features
from feature_repo.request_features import CityNorms, request_features
from feature_repo.settings import FeatureSettings
from feature_repo.tiles import ACTIVITY_KINDS, LONGEST_WINDOW_S

Progress = Callable[[int, int], None]


def training_frame(dataset_dir: Path, work_dir: Path, progress: Progress | None = None) -> pd.DataFrame:
    """Joins the features of every scored event of a dataset, as they were when it arrived.

    Args:
        dataset_dir: a dataset's folder.
        work_dir: where feature files and the scratch registry go; the files of this very dataset are reused.
        progress: called with (feature files written, files in all).

    Returns:
        One row per scored event in stream order: event_id, event_timestamp, stream_seq and `MODEL_FEATURES`.
    """
    dataset = Dataset.open(dataset_dir)
    events = dataset.event_table()
    files = work_dir / "features"
    complete = files / "COMPLETE"
    content = f"{dataset.sha256} {features_version(MODEL_FEATURES)}"
    if not complete.exists() or complete.read_text() != content:
        complete.unlink(missing_ok=True)
        write_batch_features(events, dataset.label_table(), files, progress)
        complete.write_text(content)
    scored = events.filter(pc.is_in(events.column("event_type"), value_set=pa.array(SCORED_EVENT_TYPES)))
    return assemble(scored, point_in_time_join(scored, files, work_dir / "registry.db"))


def point_in_time_join(scored: pa.Table, files: Path, registry: Path) -> pd.DataFrame:
    """Feast's historical features for events in stream order, one row per event in that order."""
    from feast import FeatureStore  # noqa: PLC0415 - a heavy import that reading a dataset does not need

    from feature_repo.definitions import definitions  # noqa: PLC0415
    from feature_repo.services import TRAINING_SERVICE  # noqa: PLC0415

    registry.unlink(missing_ok=True)
    registry.parent.mkdir(parents=True, exist_ok=True)
    store = FeatureStore(config=FeatureSettings(registry=registry).repo_config())
    store.apply(definitions(files))
    ids = [f"{kind}_id" for kind in PROFILE_KINDS]
    entity_rows = scored.select(["event_id", "stream_seq", "city", *ids]).to_pandas()
    entity_rows[ids] = entity_rows[ids].fillna("")
    entity_rows["event_timestamp"] = scored.column("ingested_at").to_pandas()
    job = store.get_historical_features(entity_rows, store.get_feature_service(TRAINING_SERVICE))
    joined = job.to_arrow()
    if not joined.column("stream_seq").equals(scored.column("stream_seq")):
        joined = joined.sort_by("stream_seq")
    if not joined.column("stream_seq").equals(scored.column("stream_seq")):
        raise RuntimeError("the point-in-time join did not return one row per event")
    # A gigabyte for a million events: each column is given up once it is converted.
    frame: pd.DataFrame = joined.to_pandas(split_blocks=True, self_destruct=True)
    return frame


def assemble(scored: pa.Table, joined: pd.DataFrame) -> pd.DataFrame:
    """Computes `MODEL_FEATURES` from events and their joined store values, both in stream order."""
    batch = EventBatch.from_arrow(scored)
    as_of = batch["event_timestamp"]
    norms = CityNorms(*(joined[f"city_{n}"].to_numpy(float) for n in ("fare_per_km", "speed_kmh", "gps_accuracy_m")))
    columns: dict[str, object] = {
        "event_id": batch["event_id"],
        "event_timestamp": pd.to_datetime(as_of, unit="us", utc=True),
        "stream_seq": scored.column("stream_seq").to_numpy(),
        "event_type": batch["event_type"],
        "city": batch["city"],
        **request_features(batch, norms),
    }
    for kind in ACTIVITY_KINDS.values():
        for name in kind.feature_names():
            # An event without such an entity, or an entity without a past, has done nothing for the whole window.
            absent = float(LONGEST_WINDOW_S) if name.endswith("_age_s") else 0.0
            columns[name] = joined[name].to_numpy(float, na_value=absent)
    for profile in PROFILE_KINDS:
        stored = {
            name: joined[f"{profile}_{name}"].fillna(absent).to_numpy(np.int64) for name, absent in UNPUBLISHED.items()
        }
        columns.update(profile_features(profile, stored, as_of))
    order = ("event_id", "event_timestamp", "stream_seq", *MODEL_FEATURES)
    return pd.DataFrame({name: columns[name] for name in order})
