"""What `feast apply` registers. The only module that Feast imports by itself (see `.feastignore`)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from feature_repo.entities import ENTITIES
from feature_repo.on_demand_views import on_demand_views
from feature_repo.services import feature_services
from feature_repo.settings import EMBEDDING_DIM, FeatureSettings
from feature_repo.sources import Offline, SparkFolder
from feature_repo.views import embedding_views, history_views, profile_views, streamed_views


def embedding_versions(offline: Path) -> list[str]:
    """The graph model versions that have embeddings to serve."""
    return sorted(p.name for p in (offline / "embeddings").glob("*") if p.is_dir())


def definitions(offline: Path, read_from: Offline | None = None) -> list[Any]:
    """All entities, views and services over the files in `offline`.

    Args:
        offline: folder of the parquet files.
        read_from: where Feast reads those files, if not in `offline`.
    """
    versions = embedding_versions(offline)
    files = read_from or offline
    views = streamed_views(files) + history_views(files) + profile_views(files)
    for version in versions:
        views += embedding_views(files, version, EMBEDDING_DIM)
    return [*ENTITIES.values(), *views, *on_demand_views(files), *feature_services(files, versions)]


def configured(settings: FeatureSettings) -> list[Any]:
    """The definitions that the settings ask for."""
    storage = SparkFolder(settings.object_storage) if settings.object_storage else None
    return definitions(settings.offline.absolute(), storage)


# `feast apply` registers the Feast objects that it finds among a module's attributes, not those inside a list.
globals().update({f"{type(d).__name__}_{d.name}": d for d in configured(FeatureSettings())})
