"""Whether a probability means what it says: every measure takes event weights, so that it can be resampled."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from inference_services.calibration import sigmoid

Vector = NDArray[np.float64]

# Beyond this a probability says no more than "certain", and its logit would dominate a regression.
_LEAST = 1e-9
_STEPS = 50
_NOWHERE = 1e3


def calibration_error(y: Vector, probability: Vector, bins: int = 20) -> float:
    """Expected calibration error over bins of equal size.

    Equal width would put nearly all events of a rare class into one bin (Nixon et al. 2019, adaptive ECE).
    """
    parts = reliability_bins(probability, bins)
    size = np.bincount(parts)
    gaps = np.bincount(parts, y) - np.bincount(parts, probability)
    return float(np.abs(gaps).sum() / size.sum())


def reliability_bins(probability: Vector, bins: int) -> NDArray[np.int64]:
    """The bin of each event by rising probability, [n]: 0 to bins - 1, of equal size, fewer with fewer events."""
    order = np.argsort(probability, kind="stable")
    code = np.empty(len(order), np.int64)
    parts = [part for part in np.array_split(order, bins) if len(part)]
    code[np.concatenate(parts)] = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    return code


@dataclass(frozen=True)
class CalibrationLine:
    """logit P(y = 1) = intercept + slope * logit p; 0 and 1 when p is right, slope below 1 when p is too extreme."""

    slope: float
    intercept: float


def calibration_line(y: Vector, probability: Vector, weight: Vector | None = None) -> CalibrationLine:
    """Logistic regression of the outcome on the logit of the probability, by Newton's method.

    D. R. Cox, "Two further applications of a model for binary regression", Biometrika 1958. Two coefficients: a solver
    with weights costs a few passes over the events, which matters in a bootstrap.

    Returns:
        NaN where there is one class only, where p is NaN, or where p separates the classes (no finite maximum).
    """
    weight = np.ones(len(y)) if weight is None else weight
    nothing = CalibrationLine(float("nan"), float("nan"))
    fraud, total = float(weight @ y), float(weight.sum())
    if np.isnan(probability).any() or not 0 < fraud < total:
        return nothing
    x = _logit(probability)
    slope, intercept = 1.0, 0.0
    for _ in range(_STEPS):
        fitted = sigmoid(slope * x + intercept)
        residual, curvature = weight * (y - fitted), weight * fitted * (1 - fitted)
        gradient = np.array([residual @ x, residual.sum()])
        cross = curvature @ x
        hessian = np.array([[curvature @ (x * x), cross], [cross, curvature.sum()]])
        try:
            step = np.linalg.solve(hessian, gradient)
        except np.linalg.LinAlgError:
            return nothing
        # A full Newton step may overshoot from a poor start; a bounded one comes back.
        step *= min(1.0, 2.0 / max(float(np.abs(step).max()), 1e-300))
        slope, intercept = slope + float(step[0]), intercept + float(step[1])
        if max(abs(slope), abs(intercept)) > _NOWHERE:
            return nothing
        if np.abs(step).max() < 1e-9:
            return CalibrationLine(slope, intercept)
    return nothing


def calibration_line_of(y: Vector, probability: Vector) -> Callable[[Vector], Vector]:
    """Slope and intercept, shape [2], as a statistic of weights [n], for a bootstrap.

    One Newton step from the fit to all events, whose error is smaller than the bootstrap's own (Davison and Hinkley
    1997, ch. 7.2: resampling generalised linear models); its sums are linear in the weights, so a round is one product.
    """
    line = calibration_line(y, probability)
    if np.isnan(line.slope):
        return lambda weight: np.full(2, np.nan)
    x = _logit(probability)
    fitted = sigmoid(line.slope * x + line.intercept)
    residual, curvature = y - fitted, fitted * (1 - fitted)
    terms = np.stack([residual * x, residual, curvature * x * x, curvature * x, curvature])

    def statistic(weight: Vector) -> Vector:
        gx, g, hxx, hx, h = terms @ weight
        determinant = hxx * h - hx * hx
        if determinant <= 0:
            return np.full(2, np.nan)
        step = np.array([h * gx - hx * g, hxx * g - hx * gx]) / determinant
        return np.asarray(np.array([line.slope, line.intercept]) + step)

    return statistic


def _logit(probability: Vector) -> Vector:
    p = np.clip(probability, _LEAST, 1 - _LEAST)
    return np.asarray(np.log(p) - np.log1p(-p))


def brier_skill(y: Vector, probability: Vector, weight: Vector | None = None) -> float:
    """1 - Brier score / Brier score of the prevalence for every event (Murphy 1973): 1 perfect, 0 useless."""
    prevalence = float(np.average(y, weights=weight))
    reference = prevalence * (1 - prevalence)
    if reference <= 0:
        return float("nan")
    return 1.0 - float(np.average((probability - y) ** 2, weights=weight)) / reference


def top_error(y: Vector, probability: Vector, share: float = 0.01) -> float:
    """Relative error where it is acted on: |mean p - mean y| / mean y in the highest `share` of the probabilities.

    Returns:
        NaN when that share holds no fraud.
    """
    return top_error_of(y, probability, share)(np.ones(len(y)))


def top_error_of(y: Vector, probability: Vector, share: float = 0.01) -> Callable[[Vector], float]:
    """`top_error` as a statistic of weights [n]; the share is of all events, so a round does not sort again."""
    top = top_rows(probability, share)
    expected, found = probability[top], y[top]

    def statistic(weight: Vector) -> float:
        p, fraud = float(weight[top] @ expected), float(weight[top] @ found)
        return abs(p - fraud) / fraud if fraud > 0 else float("nan")

    return statistic


def top_rows(probability: Vector, share: float) -> NDArray[np.int64]:
    """Rows of the highest `share` of the probabilities, at least one; ties at its edge in the order given."""
    k = max(1, round(share * len(probability)))
    return np.argsort(-probability, kind="stable")[:k]
