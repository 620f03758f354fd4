"""Feast's point-in-time join as one ASOF join for each view, on DuckDB.

Feast's own DuckDB store pairs an event with every earlier row of its entity and then keeps the latest, so that a driver
with ninety published days costs ninety pairs an event. DuckDB's ASOF join finds the latest row at once. This is an
offline store by Feast's extension point (`offline_store.type` in `feature_store.yaml`): callers use
`FeatureStore.get_historical_features` as always.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import pyarrow as pa
from feast import FeatureView, FileSource
from feast.infra.offline_stores.duckdb import DuckDBOfflineStore, DuckDBOfflineStoreConfig
from feast.infra.offline_stores.offline_store import RetrievalJob, RetrievalMetadata
from feast.infra.offline_stores.offline_utils import infer_event_timestamp_from_entity_df
from feast.on_demand_feature_view import OnDemandFeatureView
from pydantic import StrictStr

from feature_repo.duckdb_connection import connect

ASOF_STORE = "feature_repo.asof_store.AsofOfflineStore"
_POSITION, _AS_OF = "__position", "__as_of"


class AsofOfflineStoreConfig(DuckDBOfflineStoreConfig):
    """What `offline_store` says in `feature_store.yaml`."""

    type: StrictStr = ASOF_STORE


class AsofOfflineStore(DuckDBOfflineStore):
    """Feast's DuckDB store with an ASOF join in place of its own, for the views that this repository has."""

    @staticmethod
    def get_historical_features(  # noqa: PLR0917 - Feast's signature
        config: Any,
        feature_views: list[FeatureView],
        feature_refs: list[str],
        entity_df: Any,
        registry: Any,
        project: str,
        full_feature_names: bool = False,
        filter_by_created_timestamp: bool = False,
    ) -> RetrievalJob:
        """Joins to every entity row the latest row of each view at or before the row's timestamp.

        What needs more than that (a ttl, a created timestamp, renamed columns, an on-demand view, no entity frame) goes
        to Feast's own join.
        """
        sources = [source for view in feature_views if (source := _plain_source(view, feature_refs))]
        if (
            isinstance(entity_df, pd.DataFrame)
            and len(sources) == len(feature_views)
            and not full_feature_names
            and not OnDemandFeatureView.get_requested_odfvs(feature_refs, project, registry)
        ):
            return _AsofJob(sources, feature_refs, entity_df)
        return DuckDBOfflineStore.get_historical_features(
            config,
            feature_views,
            feature_refs,
            entity_df,
            registry,
            project,
            full_feature_names,
            filter_by_created_timestamp,
        )


@dataclass(frozen=True, slots=True)
class Source:
    """A parquet file of one row per entity and instant.

    Attributes:
        path: the file.
        timestamp: the column that says from when a row may be used.
        keys: the columns that name the entity.
        features: the columns to take.
    """

    path: str
    timestamp: str
    keys: tuple[str, ...]
    features: tuple[str, ...]


def asof_join(rows: pd.DataFrame, timestamp: str, sources: Sequence[Source]) -> pa.Table:
    """Joins to every entity row the latest row of each source.

    Args:
        rows: entity keys and the instant as of which each row is seen, shape [n].
        timestamp: the name of that instant's column, UTC.
        sources: what to join.

    Returns:
        The columns of `rows`, then the sources' features; n rows in the order of `rows`.
    """
    table = pa.Table.from_pandas(rows, preserve_index=False)
    instants = table[timestamp].cast(pa.timestamp("us", "UTC"), safe=False)
    columns = dict(zip(table.column_names, table.columns, strict=True)) | {timestamp: instants}
    positions = pa.array(range(len(table)), pa.int64())
    with connect() as connection:
        for source in sources:
            keys = {key: columns[key] for key in source.keys}
            connection.register("entity", pa.table({_POSITION: positions, _AS_OF: instants, **keys}))
            found = connection.sql(_query(source), params=[source.path]).to_arrow_table()
            columns.update(zip(source.features, found.columns, strict=True))
    return pa.table(columns)


def _query(source: Source) -> str:
    same = " AND ".join(f'v."{key}" = e."{key}"' for key in source.keys)
    wanted = ", ".join(f'v."{name}"' for name in source.features)
    return f"""
    SELECT {wanted} FROM entity e ASOF LEFT JOIN read_parquet(?) v
    ON {same} AND v."{source.timestamp}" <= e.{_AS_OF} ORDER BY e.{_POSITION}
    """  # noqa: S608 - names of registered definitions


def _plain_source(view: FeatureView, refs: list[str]) -> Source | None:
    """A view's file, if the latest row of one local parquet file is all that the view asks for."""
    file, projection = view.batch_source, view.projection
    if (
        not isinstance(file, FileSource)
        or not file.path.endswith(".parquet")
        or "://" in file.path
        or view.ttl
        or file.created_timestamp_column
        or file.field_mapping
        or projection.join_key_map
        or projection.version_tag is not None
        or not view.entity_columns
    ):
        return None
    prefix = f"{projection.name_alias or projection.name}:"
    features = tuple(ref.removeprefix(prefix) for ref in refs if ref.startswith(prefix))
    return Source(file.path, file.timestamp_field, tuple(c.name for c in view.entity_columns), features)


class _AsofJob(RetrievalJob):
    """The join, run when its result is asked for."""

    def __init__(self, sources: Sequence[Source], feature_refs: list[str], entity_df: pd.DataFrame) -> None:
        self._sources = sources
        self._refs = feature_refs
        self._entity_df = entity_df
        self._timestamp: str = infer_event_timestamp_from_entity_df(dict(entity_df.dtypes))

    def _to_df_internal(self, timeout: int | None = None) -> pd.DataFrame:
        frame: pd.DataFrame = self._to_arrow_internal(timeout).to_pandas()
        return frame

    def _to_arrow_internal(self, timeout: int | None = None) -> pa.Table:
        return asof_join(self._entity_df, self._timestamp, self._sources)

    @property
    def full_feature_names(self) -> bool:
        return False

    @property
    def on_demand_feature_views(self) -> list[OnDemandFeatureView]:
        return []

    @property
    def metadata(self) -> RetrievalMetadata:
        instants = self._entity_df[self._timestamp]
        keys = [name for name in self._entity_df.columns if name != self._timestamp]
        return RetrievalMetadata(self._refs, keys, instants.min(), instants.max())

    def supports_remote_storage_export(self) -> bool:
        return False
