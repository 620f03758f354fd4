"""What an operations team would write without a model: a rule for each pattern that everybody has heard of."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Vector = NDArray[np.float64]

# (feature, from which value on it is suspicious): the levels are round numbers a person would pick, not fitted.
RULES: tuple[tuple[str, float], ...] = (
    ("pair_trips_24h", 3),  # the same rider and driver again and again
    ("rider_requests_1h", 4),  # a burst of requests
    ("device_riders_7d", 3),  # many accounts on a phone
    ("payment_instrument_riders_7d", 3),  # many accounts on a card
    ("device_changes_7d", 3),  # a phone that signs up accounts
    ("rider_promos_7d", 3),  # promotion after promotion
    ("rider_refunds_7d", 2),  # refund after refund
    ("driver_refunds_7d", 3),  # riders keep complaining about a driver
    ("driver_cancels_24h", 5),  # a driver who cancels and rides on
    ("attempt", 3),  # a charge that is tried again and again
    ("detour_ratio", 2.5),  # a long way round
    ("speed_vs_city", 2.0),  # faster than traffic allows
    ("fare_per_km_vs_city", 2.0),  # dear for its length
    ("gps_max_jump_m", 1000),  # the position jumps
)


def rule_score(features: pd.DataFrame) -> Vector:
    """How many rules each event breaks, shape [n]."""
    hits = [np.nan_to_num(features[name].to_numpy(float), nan=-np.inf) >= level for name, level in RULES]
    return np.asarray(np.sum(hits, axis=0), np.float64)
