"""Profile features: what the stored slow facts mean as of an event; one function for training and serving."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from feature_repo.description import Description

_DAY_US = 86_400_000_000
_NEW = "0, before its first publication"


def stored_descriptions(kind: str) -> dict[str, Description]:
    """The columns of `<kind>_profile`."""
    return {
        f"{kind}_first_seen_us": Description(
            f"First event of the {_noun(kind)}, of those that had arrived by the last midnight UTC",
            "µs since the epoch",
            "absent, before its first publication",
        ),
        f"{kind}_lifetime_trips": _lifetime_trips(kind),
    }


def profile_descriptions(kind: str) -> dict[str, Description]:
    """What `profile_features` makes of them."""
    text = f"Days from the first event of the {_noun(kind)} to this one"
    return {
        f"{kind}_tenure_days": Description(text, "days", _NEW),
        f"{kind}_lifetime_trips": _lifetime_trips(kind),
    }


def _lifetime_trips(kind: str) -> Description:
    text = f"Completed trips of the {_noun(kind)}, as far as they had arrived by the last midnight UTC"
    return Description(text, "trips", _NEW)


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


def _noun(kind: str) -> str:
    return kind.replace("_", " ")


def tenure_days(first_seen_us: NDArray[np.int64], as_of_us: NDArray[np.int64]) -> NDArray[np.float64]:
    """Days since the first event; zero for an entity without a published profile (-1). The shapes may broadcast."""
    days: NDArray[np.float64] = np.where(first_seen_us >= 0, np.maximum(as_of_us - first_seen_us, 0) / _DAY_US, 0.0)
    return days
