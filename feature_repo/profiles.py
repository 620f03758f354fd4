"""Profile features: what the stored slow facts mean as of an event; one function for training and serving."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_DAY_US = 86_400_000_000


def profile_features(
    kind: str, first_seen_us: NDArray[np.int64], lifetime_trips: NDArray[Any], as_of_us: NDArray[np.int64]
) -> dict[str, NDArray[np.float64]]:
    """Returns the profile features of `kind`, each of shape [n].

    Args:
        kind: an entity kind that has a profile.
        first_seen_us: first event of the entity, microseconds; -1 for an entity without a published profile.
        lifetime_trips: trips before the last publication.
        as_of_us: instants of the events.
    """
    tenure = tenure_days(first_seen_us, as_of_us)
    return {f"{kind}_tenure_days": tenure, f"{kind}_lifetime_trips": np.asarray(lifetime_trips, np.float64)}


def tenure_days(first_seen_us: NDArray[np.int64], as_of_us: NDArray[np.int64]) -> NDArray[np.float64]:
    """Days since the first event; zero for an entity without a published profile (-1). The shapes may broadcast."""
    days: NDArray[np.float64] = np.where(first_seen_us >= 0, np.maximum(as_of_us - first_seen_us, 0) / _DAY_US, 0.0)
    return days
