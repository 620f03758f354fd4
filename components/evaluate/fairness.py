"""Whether honest people of one group are suspected more than those of another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from fairlearn.metrics import MetricFrame, false_positive_rate  # type: ignore[import-untyped]  # ships none
from numpy.typing import NDArray
from scipy.stats import norm  # type: ignore[import-untyped]  # it ships none

from components.evaluate.bootstrap import Interval, cluster_bootstrap, interval
from components.evaluate.metrics import threshold_at_fpr
from inference_services.alarm_groups import UNKNOWN_GROUP

Vector = NDArray[np.float64]
Names = NDArray[np.object_]

# Below this a rate of 5 % rests on fewer than ten people.
LEAST_HONEST = 200
DEVICE_TIERS = ("precise", "middling", "coarse")
_NOTHING = Interval(float("nan"), float("nan"), float("nan"))


@dataclass(frozen=True)
class GroupRate:
    """One group.

    Attributes:
        group: its name.
        honest: its honest events.
        rate: their false positive rate, with its interval.
        compared: whether it counts in the ratio; a small group and the unknown do not.
    """

    group: str
    honest: int
    rate: Interval
    compared: bool


@dataclass(frozen=True)
class Fairness:
    """One division into groups.

    Attributes:
        groups: by name.
        ratio: lowest over highest false positive rate of the compared groups; NaN with fewer than two, or no alarm.
    """

    groups: tuple[GroupRate, ...]
    ratio: Interval


def device_tier(accuracy_m: Vector) -> Names:
    """Tiers of phones by the terciles of their usual GPS radius, [n]; the coarse third holds the cheap phones.

    No event names a phone's price or model. A radius is what shows of it: bad receivers report 20 m and more where
    good ones report 5 to 10.

    Args:
        accuracy_m: usual radius of each event's phone, metres, [n], NaN where it never reported one.
    """
    known = np.isfinite(accuracy_m)
    tier = np.full(len(accuracy_m), UNKNOWN_GROUP, object)
    if known.any():
        edges = np.quantile(accuracy_m[known], [1 / 3, 2 / 3])
        tier[known] = np.array(DEVICE_TIERS, object)[np.searchsorted(edges, accuracy_m[known], "left")]
    return tier


def false_positive_rates(
    y: Vector,
    flagged: NDArray[np.bool_],
    group: Names,
    cluster: NDArray[Any],
    *,
    rounds: int,
    seed: int,
    least: int = LEAST_HONEST,
    level: float = 0.95,
) -> Fairness:
    """False positive rate of each group and the ratio of the lowest to the highest, by fairlearn, with intervals.

    The lowest of several noisy rates is too low and the highest too high, so a plain bootstrap of their ratio lies
    below the truth. The ratio's interval is therefore the least of the intervals of all ordered pairs of groups,
    each at the level that Bonferroni asks for: log-normal, with the standard error of the cluster bootstrap.

    Args:
        y: 1.0 fraud, 0.0 honest, [n].
        flagged: whether the score reached the threshold, [n].
        group: name of each event's group, [n].
        cluster: [n], see `cluster_bootstrap`.
        rounds: resamples.
        seed: of the draws.
        least: honest events below which a group is shown and not compared.
        level: of the intervals.
    """
    honest = y == 0
    flagged, group, cluster = flagged[honest].astype(float), group[honest].astype(str), cluster[honest]
    if not len(group):
        return Fairness((), _NOTHING)
    names, code, size = np.unique(group, return_inverse=True, return_counts=True)
    alarms = np.bincount(code, flagged, len(names))
    # Two weighted rows for each group: fairlearn takes a second to divide 100,000 events.
    frame = MetricFrame(
        metrics=_rate,
        y_true=np.zeros(2 * len(names)),
        y_pred=np.repeat([0.0, 1.0], len(names)),
        sensitive_features={"group": np.tile(names, 2)},
        sample_params={"sample_weight": np.concatenate([size - alarms, alarms])},
    )
    rate = frame.by_group.loc[names].to_numpy(float)

    def rates(weight: Vector) -> Vector:
        with np.errstate(invalid="ignore"):
            drawn = np.bincount(code, weight, len(names))
            return np.asarray(np.bincount(code, weight * flagged, len(names)) / drawn)

    rounds_of = cluster_bootstrap(cluster, rates, rounds=rounds, seed=seed)
    compared = (size >= least) & (names != UNKNOWN_GROUP)
    groups = tuple(
        GroupRate(str(name), int(n), interval(r, column, level), bool(counts))
        for name, n, r, column, counts in zip(names, size, rate, rounds_of.T, compared, strict=True)
    )
    return Fairness(groups, _ratio(rate[compared], rounds_of[:, compared], size[compared], level))


def recall_at_equal_rates(y: Vector, score: Vector, group: Names, fpr: float) -> float:
    """Recall if each group had its own threshold at `fpr`: what equal false positive rates would cost, or bring.

    Hardt, Price and Srebro, "Equality of opportunity in supervised learning", 2016: post-processing by group. A group
    without honest events alarms never. NaN without fraud.
    """
    code = np.unique(group.astype(str), return_inverse=True)[1]
    passed = np.zeros(len(y), np.bool_)
    for place in range(int(code.max(initial=-1)) + 1):
        rows = code == place
        if (y[rows] == 0).any():
            passed[rows] = score[rows] >= threshold_at_fpr(y[rows], score[rows], fpr)
    return float(passed[y == 1].mean()) if (y == 1).any() else float("nan")


def _rate(y_true: Vector, y_pred: Vector, sample_weight: Vector) -> float:
    return float(false_positive_rate(y_true, y_pred, sample_weight=sample_weight, pos_label=1))


def _ratio(rate: Vector, rounds_of: Vector, size: NDArray[np.int64], level: float) -> Interval:
    """Lowest over highest of k rates [k], from their resamples [rounds, k]; `false_positive_rates` says how."""
    k = len(rate)
    if k < 2 or rate.max() == 0:
        return _NOTHING
    # Half an event more, so that a resample without an alarm has a logarithm (Haldane 1956).
    logs, half = np.log(rounds_of + 0.5 / size), np.log(rate + 0.5 / size)
    first, second = np.nonzero(~np.eye(k, dtype=bool))
    error = np.nanstd(logs[:, first] - logs[:, second], axis=0)
    z = norm.ppf(1 - (1 - level) / (k * (k - 1)))
    difference = half[first] - half[second]
    low, high = np.exp((difference - z * error).min()), np.exp((difference + z * error).min())
    value = float(rate.min() / rate.max())
    return Interval(value, min(float(low), value), max(min(float(high), 1.0), value))
