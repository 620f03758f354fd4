"""Confidence intervals that resample entities or rings with all of their events, never single events.

Events of one rider, and of one ring, are not independent: resampling them singly makes an interval too narrow
(Davison and Hinkley 1997, ch. 3.8). A round draws as many clusters as there are, with replacement; an event's weight is
how often its cluster was drawn, so a statistic takes weights [n] and nothing is copied.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]
Statistic = Callable[[Vector], "float | Vector"]


@dataclass(frozen=True)
class Interval:
    """A value with its confidence interval; NaN where it could not be found."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.4f} ({self.low:.4f} to {self.high:.4f})"


def cluster_bootstrap(
    cluster: NDArray[Any], statistic: Statistic, *, rounds: int, seed: int, stratum: NDArray[Any] | None = None
) -> Vector:
    """The statistic in each round of a cluster bootstrap.

    Args:
        cluster: what each event belongs to, shape [n]: connected component, ring, or rider.
        statistic: of weights [n], float64; returns a number or a vector [k].
        rounds: resamples.
        seed: of the draws; equal seeds draw the same clusters, whatever the statistic.
        stratum: which population each event is of, [n], a cluster wholly in one; each keeps its number of clusters.

    Returns:
        Shape [rounds] or [rounds, k].
    """
    first, code = np.unique(cluster, return_index=True, return_inverse=True)[1:]
    of = np.zeros(len(first), np.int64) if stratum is None else np.unique(stratum[first], return_inverse=True)[1]
    members = [np.flatnonzero(of == which) for which in range(int(of.max()) + 1)]
    rng = np.random.default_rng(seed)
    values = []
    for _ in range(rounds):
        drawn = np.zeros(len(first))
        for clusters in members:
            size = len(clusters)
            drawn[clusters] = np.bincount(rng.integers(0, size, size), minlength=size)
        values.append(statistic(drawn[code]))
    return np.asarray(values, np.float64)


def interval(value: float, values: Vector, level: float = 0.95) -> Interval:
    """The percentile interval of resampled values [rounds]; rounds without an answer (NaN) are left out."""
    known = values[np.isfinite(values)]
    if not len(known):
        return Interval(value, float("nan"), float("nan"))
    low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
    return Interval(value, float(low), float(high))


@dataclass(frozen=True)
class Paired:
    """A statistic of two scores on the same events, and on the same resamples of them.

    Attributes:
        values: of the first and the second score, on all events.
        rounds: the same on each resample, shape [rounds, 2].
    """

    values: tuple[float, float]
    rounds: Vector

    def difference(self, level: float = 0.95) -> Interval:
        """First minus second."""
        return interval(self.values[0] - self.values[1], self.rounds[:, 0] - self.rounds[:, 1], level)

    def ratio(self, level: float = 0.95) -> Interval:
        """First over second; NaN where the second is 0."""
        with np.errstate(divide="ignore", invalid="ignore"):
            value = np.divide(*self.values)
            return interval(float(value), self.rounds[:, 0] / self.rounds[:, 1], level)


def paired_bootstrap(
    cluster: NDArray[Any],
    first: Statistic,
    second: Statistic,
    *,
    rounds: int,
    seed: int,
    stratum: NDArray[Any] | None = None,
) -> Paired:
    """Resamples two statistics together, so that what both share (hard weeks, lucky rings) cancels.

    Args:
        cluster: shape [n], see `cluster_bootstrap`.
        first: of weights [n]; returns a number.
        second: likewise.
        rounds: resamples.
        seed: of the draws.
        stratum: shape [n], see `cluster_bootstrap`.
    """

    def both(weight: Vector) -> Vector:
        return np.array([first(weight), second(weight)], np.float64)

    whole = both(np.ones(len(cluster)))
    return Paired(
        (float(whole[0]), float(whole[1])), cluster_bootstrap(cluster, both, rounds=rounds, seed=seed, stratum=stratum)
    )


def average_precision_of(y: Vector, score: Vector) -> Callable[[Vector], float]:
    """Weighted average precision as a statistic of weights [n]; the scores are sorted once, so a round is linear.

    NaN where no fraud was drawn, or where a score is NaN. With equal weights it is scikit-learn's.
    """
    if np.isnan(score).any():
        return lambda weight: float("nan")
    order, ends = _falling(score)
    fraud = y[order]

    def statistic(weight: Vector) -> float:
        weight = weight[order]
        caught, seen = np.cumsum(weight * fraud)[ends], np.cumsum(weight)[ends]
        if caught[-1] <= 0:
            return float("nan")
        gained = np.diff(caught, prepend=0.0)
        return float(np.sum(gained * caught / np.maximum(seen, 1e-12)) / caught[-1])

    return statistic


def recall_at_fpr_of(y: Vector, score: Vector, fpr: float) -> Callable[[Vector], float]:
    """Weighted recall at a false positive rate as a statistic of weights [n]; each round finds its own threshold."""
    if np.isnan(score).any():
        return lambda weight: float("nan")
    order, ends = _falling(score)
    fraud = y[order]

    def statistic(weight: Vector) -> float:
        weight = weight[order]
        caught, alarmed = np.cumsum(weight * fraud)[ends], np.cumsum(weight * (1 - fraud))[ends]
        if caught[-1] <= 0:
            return float("nan")
        # Of a whole number of honest events a share is allowed, rounded down; sums of whole weights are exact.
        passing = int(np.searchsorted(alarmed, np.floor(fpr * alarmed[-1]), side="right"))
        return float(caught[passing - 1] / caught[-1]) if passing else 0.0

    return statistic


def average_precision_interval(
    y: Vector, score: Vector, cluster: NDArray[Any], *, rounds: int, seed: int, level: float = 0.95
) -> Interval:
    """Average precision with its interval."""
    statistic = average_precision_of(y, score)
    return interval(statistic(np.ones(len(y))), cluster_bootstrap(cluster, statistic, rounds=rounds, seed=seed), level)


def _falling(score: Vector) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The order of falling scores, and the last place of each run of equal ones."""
    order = np.argsort(-score, kind="stable")
    return order, np.append(np.flatnonzero(np.diff(score[order])), len(order) - 1)
