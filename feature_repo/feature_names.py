"""The names and order of what the models read; every other list of features derives from these."""

from __future__ import annotations

from feature_repo.request_features import REQUEST_FEATURES
from feature_repo.tiles import ACTIVITY_FEATURES

PROFILE_KINDS: tuple[str, ...] = ("rider", "driver", "device", "payment_instrument")

# Slow-moving batch features: days since first seen, and trips completed before the last publication.
PROFILE_FEATURES: tuple[str, ...] = tuple(
    f"{kind}_{name}" for kind in PROFILE_KINDS for name in ("tenure_days", "lifetime_trips")
)
STORE_FEATURES: tuple[str, ...] = ACTIVITY_FEATURES + PROFILE_FEATURES
CATEGORICAL_FEATURES: tuple[str, ...] = ("event_type", "city")
MODEL_FEATURES: tuple[str, ...] = CATEGORICAL_FEATURES + REQUEST_FEATURES + STORE_FEATURES
