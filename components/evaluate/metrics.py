"""Measures of a fraud score at native prevalence."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score

Vector = NDArray[np.float64]


def average_precision(y: Vector, score: Vector) -> float:
    """Area under the precision-recall curve as a step function."""
    return float(average_precision_score(y, score))


def recall_at_fpr(y: Vector, score: Vector, fpr: float) -> float:
    """Share of the fraud above the threshold that at most `fpr` of the honest events reach."""
    return float((score[y == 1] >= threshold_at_fpr(y, score, fpr)).mean())


def threshold_at_fpr(y: Vector, score: Vector, fpr: float) -> float:
    """The lowest score that at most `fpr` of the honest events reach."""
    honest = np.sort(score[y == 0])[::-1]
    allowed = int(fpr * len(honest))
    # Strictly above the first honest score that may not pass; ties are never split.
    return float(np.nextafter(honest[allowed], np.inf)) if allowed < len(honest) else -np.inf


def precision_in_top(y: Vector, score: Vector, day: NDArray[Any], k: int) -> float:
    """Mean over days of the fraud share among a day's k highest scores."""
    shares = []
    for value in np.unique(day):
        rows = np.flatnonzero(day == value)
        top = rows[np.argsort(-score[rows], kind="stable")[:k]]
        shares.append(y[top].mean())
    return float(np.mean(shares))


def calibration_error(y: Vector, probability: Vector, bins: int = 20) -> float:
    """Expected calibration error over bins of equal size.

    Equal width would put nearly all events of a rare class into one bin (Nixon et al. 2019, adaptive ECE).
    """
    order = np.argsort(probability, kind="stable")
    parts = [part for part in np.array_split(order, bins) if len(part)]
    gaps = [len(part) * abs(y[part].mean() - probability[part].mean()) for part in parts]
    return float(np.sum(gaps) / len(y))


def bootstrap_interval(
    y: Vector, score: Vector, entity: NDArray[Any], *, rounds: int, seed: int, level: float = 0.95
) -> tuple[float, float]:
    """Percentile interval of the average precision, resampling entities with all of their events.

    Events of one rider are not independent; resampling events would make the interval too narrow.
    """
    order = np.argsort(-score, kind="stable")
    y, (_, code) = y[order], np.unique(entity[order], return_inverse=True)
    # The average precision changes only where the score does; sorting once makes each round linear.
    ends = np.append(np.flatnonzero(np.diff(score[order])), len(y) - 1)
    rng = np.random.default_rng(seed)
    values = []
    for _ in range(rounds):
        drawn = np.bincount(rng.integers(0, code.max() + 1, code.max() + 1), minlength=code.max() + 1)
        weight = drawn[code].astype(float)
        caught, seen = np.cumsum(weight * y)[ends], np.cumsum(weight)[ends]
        if caught[-1] > 0:
            values.append(np.sum(np.diff(caught, prepend=0.0) * caught / np.maximum(seen, 1.0)) / caught[-1])
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
