"""Why an event was flagged: the features that raised LightGBM's score most, as short sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

MAX_REASONS = 3


def explain(contributions: NDArray[np.float64], features: Sequence[str], values: Mapping[str, Any]) -> list[str]:
    """Returns up to MAX_REASONS sentences, the strongest first.

    Args:
        contributions: what each feature adds to the raw score (log-odds), shape [F] or [F + 1] with the bias last.
        features: the F feature names.
        values: the event's feature values by name; NaN is "unknown".
    """
    of_features = contributions[: len(features)]
    strongest = np.argsort(-of_features, kind="stable")[:MAX_REASONS]
    return [_sentence(features[i], values.get(features[i])) for i in strongest if of_features[i] > 0]


def _sentence(name: str, value: Any) -> str:
    label = name.replace("_", " ")
    if isinstance(value, str):
        return f"{label} {value} raises the risk"
    if value is None or np.isnan(value):
        return f"{label}, which is unknown, raises the risk"
    return f"{label} of {value:.6g} raises the risk"
