"""Profile features: what the stored slow facts mean as of an event; one function for training and serving."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from feature_repo.description import Description

_DAY_US = 86_400_000_000
# Whoever was never confirmed to defraud was not for the whole of this, the longest window that other features have.
LONGEST_DAYS_SINCE_FRAUD = 30.0
# What is stored of an entity, and what stands for an entity without a published profile.
UNPUBLISHED: Mapping[str, int] = {
    "first_seen_us": -1,
    "lifetime_trips": 0,
    "confirmed_frauds": 0,
    "last_fraud_us": -1,
}
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
        f"{kind}_confirmed_frauds": _confirmed_frauds(kind),
        f"{kind}_last_fraud_us": Description(
            f"Latest event of the {_noun(kind)} among its confirmed frauds", "µs since the epoch", "-1, without any"
        ),
    }


def profile_descriptions(kind: str) -> dict[str, Description]:
    """What `profile_features` makes of them."""
    noun, longest = _noun(kind), f"{LONGEST_DAYS_SINCE_FRAUD:g}"
    return {
        f"{kind}_tenure_days": Description(f"Days from the first event of the {noun} to this one", "days", _NEW),
        f"{kind}_lifetime_trips": _lifetime_trips(kind),
        f"{kind}_confirmed_frauds": _confirmed_frauds(kind),
        f"{kind}_days_since_fraud": Description(
            f"Days from the latest confirmed fraud of the {noun} to this event, at most {longest}",
            "days",
            f"{longest}, without a confirmed fraud",
        ),
    }


def _lifetime_trips(kind: str) -> Description:
    text = f"Completed trips of the {_noun(kind)}, as far as they had arrived by the last midnight UTC"
    return Description(text, "trips", _NEW)


def _confirmed_frauds(kind: str) -> Description:
    text = f"Events of the {_noun(kind)} that the labels observed before the last midnight UTC call fraud"
    return Description(text, "events", _NEW)


def profile_features(
    kind: str, stored: Mapping[str, NDArray[Any]], as_of_us: NDArray[np.int64]
) -> dict[str, NDArray[np.float64]]:
    """Returns the profile features of `kind`, each of shape [n].

    Args:
        kind: an entity kind that has a profile.
        stored: the names of `UNPUBLISHED`, each of shape [n], with its value for an entity without a profile.
        as_of_us: instants of the events.
    """
    return {f"{kind}_{name}": values for name, values in profile_measures(stored, as_of_us).items()}


def profile_measures(stored: Mapping[str, NDArray[Any]], as_of_us: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
    """`PROFILE_MEASURES` by name, for stored columns of any kind; the shapes may broadcast."""
    return {
        "tenure_days": _days_since(stored["first_seen_us"], as_of_us, 0.0),
        "lifetime_trips": np.asarray(stored["lifetime_trips"], np.float64),
        "confirmed_frauds": np.asarray(stored["confirmed_frauds"], np.float64),
        "days_since_fraud": np.minimum(
            _days_since(stored["last_fraud_us"], as_of_us, LONGEST_DAYS_SINCE_FRAUD), LONGEST_DAYS_SINCE_FRAUD
        ),
    }


def _noun(kind: str) -> str:
    return kind.replace("_", " ")


def _days_since(then_us: NDArray[np.int64], as_of_us: NDArray[np.int64], never: float) -> NDArray[np.float64]:
    """Days from an instant; `never` where it is none (-1)."""
    days: NDArray[np.float64] = np.where(then_us >= 0, np.maximum(as_of_us - then_us, 0) / _DAY_US, never)
    return days
