"""Tests and intervals that stay valid however often one looks: pure arithmetic on arrays.

- `sprt`: Wald's sequential probability ratio test (Wald 1945, "Sequential tests of statistical hypotheses").
- `share_mismatch`: the mixture test of a binomial share (Robbins 1970; for split ratios Lindon and Malek 2022).
- `difference`: an asymptotic confidence sequence for a difference of two means, Robbins' normal mixture with estimated
  variances (Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas 2021, theorem 2.2, as they use it for two arms; the exact
  relatives are in Howard, Ramdas, McAuliffe and Sekhon 2021).

Requests that are decided together go to one revision together. Such a unit, not the decision, is what is drawn.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaln  # type: ignore[import-untyped]  # it ships none

Test = Literal["good", "bad", "open"]
# Weight of the mixture's prior, in units: a share is suspected soonest after some hundred of them.
_PRIOR_UNITS = 100.0


@dataclass(frozen=True, slots=True)
class Mean:
    """A mean of values that came in units.

    Attributes:
        value: over the values.
        variance: of that mean, with units drawn independently.
        units: how many.
    """

    value: float
    variance: float
    units: int

    @classmethod
    def of(cls, values: NDArray[Any], unit: NDArray[Any]) -> Mean:
        """The mean of n values [n], each of a unit [n]; NaN with an infinite variance for fewer than two units."""
        _, code = np.unique(unit, return_inverse=True)
        units = int(code.max()) + 1 if len(code) else 0
        if units < 2:
            return cls(float("nan"), float("inf"), units)
        mean = float(np.mean(values))
        # A ratio of sums, linearised: what each unit adds beyond its size times the mean.
        beyond = np.bincount(code, weights=np.asarray(values, np.float64) - mean)
        variance = float((beyond**2).sum()) / len(values) ** 2 * units / (units - 1)
        return cls(mean, variance, units)


@dataclass(frozen=True, slots=True)
class Interval:
    """A difference, and where it lies at every look at once with the confidence that was asked for."""

    value: float
    low: float
    high: float


def difference(a: Mean, b: Mean, error: float, tightest_at: int = 1_000) -> Interval:
    """The confidence sequence of a's mean less b's, now.

    Args:
        a: one arm's mean.
        b: the other's, of other units.
        error: chance that the interval ever misses the difference.
        tightest_at: units of both arms at which the interval is to be the tightest.
    """
    units = a.units + b.units
    value, spread = a.value - b.value, np.sqrt(a.variance + b.variance)
    if not np.isfinite(value) or not np.isfinite(spread):
        return Interval(value, -float("inf"), float("inf"))
    lift = -2 * np.log(error)
    growth = units * (lift + np.log(lift) + 1) / tightest_at
    radius = float(spread * np.sqrt(2 * (growth + 1) / growth * np.log(np.sqrt(growth + 1) / error)))
    return Interval(value, value - radius, value + radius)


def sprt(failed: NDArray[np.bool_], tolerated: float, broken: float, error: float) -> Test:
    """Whether a share of failures is tolerable ("good") or broken ("bad"), or that cannot be told yet.

    What is decided first holds: a later look at more of the same sequence answers the same.

    Args:
        failed: in the order in which they came.
        tolerated: share that is fine.
        broken: larger share that is not.
        error: chance of either mistake.
    """
    of_one = np.where(failed, np.log(broken / tolerated), np.log((1 - broken) / (1 - tolerated)))
    ratio = np.cumsum(of_one)
    bound = np.log((1 - error) / error)
    bad, good = _first(ratio >= bound), _first(ratio <= -bound)
    if bad == good:
        return "open"
    return "bad" if bad < good else "good"


def share_mismatch(hit: NDArray[np.bool_], share: float, error: float) -> bool:
    """Whether units fall to the canary in another share than they are sent to it.

    Args:
        hit: whether each unit was the canary's, in order.
        share: as it is configured, between 0 and 1.
        error: chance of a false alarm, at any look.
    """
    if not len(hit):
        return False
    hits, units = np.cumsum(hit), np.arange(1, len(hit) + 1)
    a, b = _PRIOR_UNITS * share, _PRIOR_UNITS * (1 - share)
    log_e = betaln(a + hits, b + units - hits) - betaln(a, b)
    log_e -= hits * np.log(share) + (units - hits) * np.log1p(-share)
    return bool((log_e >= -np.log(error)).any())


def _first(where: NDArray[np.bool_]) -> int:
    return int(where.argmax()) if where.any() else len(where)
