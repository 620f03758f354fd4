"""The same feature files behind any of Feast's offline stores, for comparison."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pyarrow as pa
from feast import FeatureStore, RepoConfig

from feature_repo.definitions import definitions
from feature_repo.feature_names import PROFILE_KINDS
from feature_repo.settings import FEAST_PROJECT


def offline_store(kind: str, files: Path, registry: Path) -> FeatureStore:
    """A store with our definitions over feature files, `kind` as in `offline_store.type`."""
    config = RepoConfig(
        project=FEAST_PROJECT,
        provider="local",
        registry=str(registry),
        offline_store={"type": kind},
        online_store=None,
        entity_key_serialization_version=3,
    )
    store = FeatureStore(config=config)
    store.apply(definitions(files))
    return store


def entity_rows(scored: pa.Table) -> pd.DataFrame:
    """What a training set asks of the store for events in stream order."""
    ids = [f"{kind}_id" for kind in PROFILE_KINDS]
    rows = scored.select(["event_id", "stream_seq", "city", *ids]).to_pandas()
    rows[ids] = rows[ids].fillna("")
    return rows.assign(event_timestamp=scored.column("ingested_at").to_pandas())
