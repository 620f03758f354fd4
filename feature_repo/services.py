"""Feature services, named by the version of the models that they serve; docs/features.md says how."""

from __future__ import annotations

from collections.abc import Sequence

from feast import FeatureService

from feature_repo.feature_names import MODEL_FEATURES, gnn_service, lightgbm_service, online_service
from feature_repo.on_demand_views import on_demand_views
from feature_repo.settings import EMBEDDING_DIM
from feature_repo.sources import Offline
from feature_repo.views import embedding_views, history_views, neighbour_views, profile_views, streamed_views

TRAINING_SERVICE = lightgbm_service(MODEL_FEATURES)
ONLINE_SERVICE = online_service(MODEL_FEATURES)


def feature_services(offline: Offline, gnn_versions: Sequence[str] = ()) -> list[FeatureService]:
    """What LightGBM learns from, what the transformer reads, and what each graph model version needs besides.

    Args:
        offline: where the parquet files are.
        gnn_versions: the graph model versions that have embeddings.
    """
    return [
        FeatureService(
            name=TRAINING_SERVICE,
            features=[*history_views(offline), *profile_views(offline)],
            description="What LightGBM is trained from: activity as of each event, and what was published before it.",
        ),
        FeatureService(
            name=ONLINE_SERVICE,
            features=[*streamed_views(offline), *profile_views(offline), *on_demand_views(offline)],
            description="What the transformer reads before it asks the models: tiles, neighbours, profiles and norms.",
        ),
        *(_gnn_service(offline, version) for version in gnn_versions),
    ]


def _gnn_service(offline: Offline, version: str) -> FeatureService:
    return FeatureService(
        name=gnn_service(version),
        features=[*neighbour_views(offline), *embedding_views(offline, version, EMBEDDING_DIM)],
        description=f"What the graph model {version} reads: neighbours, and its own embeddings. Ask for full feature"
        " names, since every embedding is called `embedding`.",
    )
