"""Applies a fitted Platt calibration: raw model score -> calibrated log-odds -> probability.

J. Platt, "Probabilistic outputs for support vector machines", 1999. Fitting is part of training; serving only applies.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inference_services.errors import BundleError

Vector = NDArray[np.float64]

# Availability masks: everything was known, the feature store was down, or embeddings alone could not be read.
FULL = "full"
NO_STORE = "no_store"
NO_GRAPH = "no_graph"


def sigmoid(log_odds: Vector) -> Vector:
    """1 / (1 + exp(-x)), elementwise, without overflow."""
    e = np.exp(-np.abs(log_odds))
    result: Vector = np.where(log_odds >= 0, 1.0, e) / (1.0 + e)
    return result


def sigmoid_of(log_odds: float) -> float:
    """`sigmoid` of one number, to the last bit: numpy's exponential is not the C library's."""
    e = float(np.exp(-abs(log_odds)))
    return (1.0 if log_odds >= 0 else e) / (1.0 + e)


@dataclass(frozen=True, slots=True)
class Platt:
    """log_odds = slope * raw + intercept."""

    slope: float
    intercept: float

    def log_odds_of(self, raw: float) -> float:
        """Calibrated log-odds of one raw score."""
        return self.slope * raw + self.intercept

    def log_odds(self, raw: Vector) -> Vector:
        """Calibrated log-odds of raw scores, same shape."""
        return self.slope * raw + self.intercept

    def probability(self, raw: Vector) -> Vector:
        """Calibrated probability of raw scores, same shape."""
        return sigmoid(self.log_odds(raw))


def read_calibrations(content: Any, masks: tuple[str, ...], optional: tuple[str, ...] = ()) -> Mapping[str, Platt]:
    """Returns the calibration for each availability mask of a parsed `calibration.json`; optional ones may be absent.

    Raises:
        BundleError: a mask is missing, or a slope or intercept is not a finite number.
    """
    result = {}
    for mask in (*masks, *(name for name in optional if isinstance(content, dict) and name in content)):
        try:
            platt = Platt(float(content[mask]["slope"]), float(content[mask]["intercept"]))
        except (KeyError, TypeError, ValueError):
            raise BundleError(f"calibration.json has no usable slope and intercept for the mask {mask!r}") from None
        if not (math.isfinite(platt.slope) and math.isfinite(platt.intercept)):
            raise BundleError(f"calibration.json: slope and intercept of {mask!r} must be finite")
        result[mask] = platt
    return result
