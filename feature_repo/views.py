"""The feature views. Nothing expires by `ttl`, which Feast's Redis read ignores: staleness is a feature, age."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from feast import FeatureView, Field
from feast.data_source import DataSource
from feast.types import Array, Bytes, FeastType, Float32, Float64, Int64

from feature_repo.activity_descriptions import activity_descriptions
from feature_repo.description import Description
from feature_repo.entities import ENTITIES
from feature_repo.feature_names import PROFILE_KINDS
from feature_repo.graph_features import K_NEIGHBOURS
from feature_repo.profiles import stored_descriptions
from feature_repo.pseudonyms import ENTITY_KINDS
from feature_repo.sources import Offline, batch_source, embedding_source, stream_source
from feature_repo.tiles import ACTIVITY_KINDS, ActivityKind

NO_EXPIRY = timedelta(0)
_UNPUBLISHED = "absent, before its first publication"
CITY_NORMS: dict[str, Description] = {
    "city_fare_per_km": Description(
        "Median fare of the trips completed in the city on its last published day", "toman/km", _UNPUBLISHED
    ),
    "city_speed_kmh": Description(
        "Median speed of the trips completed in the city on its last published day", "km/h", _UNPUBLISHED
    ),
    "city_gps_accuracy_m": Description(
        "90th percentile of the GPS radius that the city's trips reported on its last published day", "m", _UNPUBLISHED
    ),
}


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


def _field(name: str, dtype: FeastType, description: Description) -> Field:
    return Field(name=name, dtype=dtype, description=str(description))


def activity_entities(kind: str) -> list[str]:
    """The Feast entities that key the activity of `kind`."""
    return [name.removesuffix("_id") for name in ACTIVITY_KINDS[kind].id_fields]


def activity_fields(kind: ActivityKind) -> list[Field]:
    """The windowed features of `kind`, in the order of its `feature_names`."""
    described = activity_descriptions()
    return [_field(name, Float64, described[name]) for name in kind.feature_names()]


def _stream_view(name: str, entities: Sequence[str], offline: Offline, packed: str, text: str) -> FeatureView:
    blob = Description(packed, "bytes", "absent, without a past")
    return _view(name, entities, [_field(f"{name}_blob", Bytes, blob)], stream_source(name, offline), text)


def tile_views(offline: Offline) -> list[FeatureView]:
    """`<kind>_tiles`: the activity of an entity as the streaming worker keeps it, merged as of the request."""
    return [
        _stream_view(
            f"{kind}_tiles",
            activity_entities(kind),
            offline,
            f"Tiles of the {_noun(kind)}, packed by feature_repo/tiles.py",
            f"What the {_noun(kind)} did in the last 30 days, in tiles of 5 minutes, 1 hour and 1 day.",
        )
        for kind in ACTIVITY_KINDS
    ]


def neighbour_views(offline: Offline) -> list[FeatureView]:
    """`<kind>_neighbours`: the last interactions of an entity as the streaming worker keeps them."""
    return [
        _stream_view(
            f"{kind}_neighbours",
            [kind],
            offline,
            f"Interactions of the {_noun(kind)}, packed by feature_repo/graph_features.py",
            f"With whom the {_noun(kind)} dealt in its last {K_NEIGHBOURS} events, latest first.",
        )
        for kind in ENTITY_KINDS
    ]


def streamed_views(offline: Offline) -> list[FeatureView]:
    """All that the streaming worker writes."""
    return tile_views(offline) + neighbour_views(offline)


def history_views(offline: Offline) -> list[FeatureView]:
    """`<kind>_activity_history`: the offline values of the tiles, exact for each scored event."""
    return [
        _view(
            f"{kind.name}_activity_history",
            ["event"],
            activity_fields(kind),
            batch_source(f"{kind.name}_activity_history", offline),
            f"What the {_noun(kind.name)} had done when the event arrived.",
            online=False,
        )
        for kind in ACTIVITY_KINDS.values()
    ]


def profile_views(offline: Offline) -> list[FeatureView]:
    """`<kind>_profile` and `city_profile`: batch features, published at midnight UTC."""
    profiles = [
        _view(
            f"{kind}_profile",
            [kind],
            [_field(name, Int64, text) for name, text in stored_descriptions(kind).items()],
            batch_source(f"{kind}_profile", offline),
            f"Slow facts about the {_noun(kind)}.",
        )
        for kind in PROFILE_KINDS
    ]
    norms = [_field(name, Float64, text) for name, text in CITY_NORMS.items()]
    text = "What is usual in the city."
    return [*profiles, _view("city_profile", ["city"], norms, batch_source("city_profile", offline), text)]


def embedding_views(offline: Offline, version: str, dim: int) -> list[FeatureView]:
    """`<kind>_embedding_<version>`: stage 1 of one version of the graph model."""
    return [
        _view(
            f"{kind}_embedding_{version}",
            [kind],
            [_field("embedding", Array(Float32), embedding_description(kind, version, dim))],
            embedding_source(kind, version, offline),
            f"Stage 1 embedding of the {_noun(kind)} by the graph model {version}.",
        )
        for kind in ENTITY_KINDS
    ]


def embedding_description(kind: str, version: str, dim: int) -> Description:
    """What an embedding is."""
    text = f"The {_noun(kind)} and whom it met in 30 days, as stage 1 of the graph model {version} sees them"
    return Description(text, f"{dim} numbers", "zeros with the flag known = 0, where the last snapshot lacks it")


def _noun(kind: str) -> str:
    return kind.replace("_", " ")
