"""The feature views. Nothing expires by `ttl`, which Feast's Redis read ignores: staleness is a feature, age."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

from feast import FeatureView, Field, FileSource, PushSource
from feast.data_source import DataSource
from feast.types import Array, Bytes, FeastType, Float32, Float64, Int64

from feature_repo.entities import ENTITIES
from feature_repo.feature_names import PROFILE_KINDS
from feature_repo.pseudonyms import ENTITY_KINDS
from feature_repo.tiles import ACTIVITY_KINDS

NO_EXPIRY = timedelta(0)
CITY_NORMS: dict[str, str] = {
    "city_fare_per_km": "Median fare of the last published day, toman per kilometre.",
    "city_speed_kmh": "Median trip speed of the last published day, km/h.",
    "city_gps_accuracy_m": "90th percentile of the reported GPS radius of the last published day, metres.",
}


def _source(name: str, offline: Path) -> FileSource:
    return FileSource(name=f"{name}_file", path=str(offline / f"{name}.parquet"), timestamp_field="event_timestamp")


def _view(
    name: str, entities: Sequence[str], fields: list[Field], source: DataSource, text: str, *, online: bool = True
) -> FeatureView:
    return FeatureView(
        name=name,
        entities=[ENTITIES[e] for e in entities],
        schema=fields,
        source=source,
        ttl=NO_EXPIRY,
        online=online,
        description=text,
    )


def _field(name: str, dtype: FeastType, description: str) -> Field:
    return Field(name=name, dtype=dtype, description=description)


def _pushed(name: str, offline: Path) -> PushSource:
    return PushSource(name=f"{name}_push", batch_source=_source(name, offline))


def activity_entities(kind: str) -> list[str]:
    """The Feast entities that key the activity of `kind`."""
    return [name.removesuffix("_id") for name in ACTIVITY_KINDS[kind].id_fields]


def streamed_views(offline: Path) -> list[FeatureView]:
    """`<kind>_tiles` and `<kind>_neighbours`: written by the streaming worker, read as of the request."""
    tiles = [
        _view(
            f"{kind}_tiles",
            activity_entities(kind),
            [_field(f"{kind}_tiles_blob", Bytes, "Packed tiles, merged at read time (feature_repo/tiles.py).")],
            _pushed(f"{kind}_tiles", offline),
            f"What the {kind} did, in tiles of 5 minutes, 1 hour and 1 day.",
        )
        for kind in ACTIVITY_KINDS
    ]
    neighbours = [
        _view(
            f"{kind}_neighbours",
            [kind],
            [_field(f"{kind}_neighbours_blob", Bytes, "Packed interactions, most recent first (graph_features.py).")],
            _pushed(f"{kind}_neighbours", offline),
            f"With whom the {kind} dealt last.",
        )
        for kind in ENTITY_KINDS
    ]
    return tiles + neighbours


def history_views(offline: Path) -> list[FeatureView]:
    """`<kind>_activity_history`: the offline values of the tiles, exact for each scored event."""
    return [
        _view(
            f"{kind.name}_activity_history",
            ["event"],
            [_field(name, Float64, _describe(name, kind.name)) for name in kind.feature_names()],
            _source(f"{kind.name}_activity_history", offline),
            f"What the {kind.name} had done when the event arrived.",
            online=False,
        )
        for kind in ACTIVITY_KINDS.values()
    ]


def profile_views(offline: Path) -> list[FeatureView]:
    """`<kind>_profile` and `city_profile`: batch features, published at midnight UTC."""
    profiles = [
        _view(
            f"{kind}_profile",
            [kind],
            [
                _field(f"{kind}_first_seen_us", Int64, "First event, microseconds since the epoch."),
                _field(f"{kind}_lifetime_trips", Int64, "Trips completed before the last publication."),
            ],
            _source(f"{kind}_profile", offline),
            f"Slow facts about the {kind}.",
        )
        for kind in PROFILE_KINDS
    ]
    norms = [_field(name, Float64, text) for name, text in CITY_NORMS.items()]
    text = "What is usual in the city."
    return [*profiles, _view("city_profile", ["city"], norms, _source("city_profile", offline), text)]


def embedding_views(offline: Path, version: str, dim: int) -> list[FeatureView]:
    """`<kind>_embedding_<version>`: stage 1 of one version of the graph model."""
    return [
        _view(
            f"{kind}_embedding_{version}",
            [kind],
            [_field("embedding", Array(Float32), f"{dim} numbers from stage 1 of the graph model {version}.")],
            FileSource(
                name=f"{kind}_embedding_{version}_file",
                path=str(offline / "embeddings" / version / f"{kind}.parquet"),
                timestamp_field="event_timestamp",
            ),
            f"Stage 1 embedding of the {kind} by the graph model {version}.",
        )
        for kind in ENTITY_KINDS
    ]


def _describe(name: str, kind: str) -> str:
    if name.endswith("_age_s"):
        return f"Seconds since the {kind}'s latest event within 30 days."
    measure, window = name.removeprefix(f"{kind}_").rsplit("_", 1)
    return f"The {kind}'s {measure.replace('_', ' ')} over {window}."
