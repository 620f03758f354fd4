"""Feature services: what training joins and what serving reads."""

from __future__ import annotations

from pathlib import Path

from feast import FeatureService

from feature_repo.on_demand_views import on_demand_views
from feature_repo.views import history_views, profile_views, streamed_views

TRAINING_SERVICE = "fraud_training_v1"
ONLINE_SERVICE = "fraud_online_v1"


def feature_services(offline: Path) -> list[FeatureService]:
    """The training service (point-in-time join) and the online service (reads at request time)."""
    return [
        FeatureService(name=TRAINING_SERVICE, features=[*history_views(offline), *profile_views(offline)]),
        FeatureService(
            name=ONLINE_SERVICE, features=[*streamed_views(offline), *profile_views(offline), *on_demand_views(offline)]
        ),
    ]
