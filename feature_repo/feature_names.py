"""The names and order of what the models read, and of the Feast services that give it.

Every other list of features derives from these. A name keeps its meaning: a feature that is computed differently gets
another name, so a list of names tells what a model reads.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

from feature_repo.request_features import REQUEST_FEATURES
from feature_repo.tiles import ACTIVITY_FEATURES

PROFILE_KINDS: tuple[str, ...] = ("rider", "driver", "device", "payment_instrument")

# Slow-moving batch features of each kind: what the last publication says of the entity, as of the event.
PROFILE_MEASURES: tuple[str, ...] = ("tenure_days", "lifetime_trips", "confirmed_frauds", "days_since_fraud")
PROFILE_FEATURES: tuple[str, ...] = tuple(f"{kind}_{name}" for kind in PROFILE_KINDS for name in PROFILE_MEASURES)
STORE_FEATURES: tuple[str, ...] = ACTIVITY_FEATURES + PROFILE_FEATURES
CATEGORICAL_FEATURES: tuple[str, ...] = ("event_type", "city")
MODEL_FEATURES: tuple[str, ...] = CATEGORICAL_FEATURES + REQUEST_FEATURES + STORE_FEATURES


def features_version(features: Sequence[str]) -> str:
    """The version of an ordered feature list: the first 12 digits of the SHA-256 over its lines."""
    return sha256("".join(f"{name}\n" for name in features).encode()).hexdigest()[:12]


def lightgbm_service(features: Sequence[str]) -> str:
    """The Feast service that LightGBM bundles with this feature list are trained from."""
    return f"fraud_lightgbm_{features_version(features)}"


def gnn_service(version: str) -> str:
    """The Feast service that gives a graph model its neighbours and embeddings.

    Args:
        version: content id of its bundle, 12 digits, as in the names of its embedding views.
    """
    return f"fraud_gnn_{version}"


def online_service(features: Sequence[str]) -> str:
    """The Feast service of what the transformer reads to send these features, whichever model version answers."""
    return f"fraud_online_{features_version(features)}"
