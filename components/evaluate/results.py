"""What a report is made of: filled by the pipeline's single test period and by a run over many weeks alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import precision_recall_curve

from components.evaluate import cost
from components.evaluate.bootstrap import cluster_bootstrap
from components.evaluate.labelled import Labelled, Vector
from inference_services.alarm_groups import Offsets
from inference_services.policy_settings import ThresholdSettings

# A model, a baseline it must beat, a control that must fail, or a bound that nobody can beat.
Role = Literal["model", "baseline", "control", "upper bound"]

_CURVE_POINTS = 300
_BINS = 10
_SCORE_BINS = 50
# Review capacities of the cost curve, as multiples of the policy's own.
_CAPACITIES = (0.0, 0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0)


@dataclass(frozen=True)
class Curves:
    """What the plots of one model show.

    Attributes:
        recall: of the precision-recall curve, falling, [m].
        precision: [m].
        expected: mean probability of each bin of the reliability plot, [b].
        found: share of fraud in it, [b].
        found_low: lower end of its interval, [b].
        found_high: upper end, [b].
        capacity: reviews a day, [c].
        cost_per_day: toman, [c].
        score_edges: log10 of the probability, edges of the histogram, [s + 1].
        honest_density: [s].
        fraud_density: [s].
    """

    recall: tuple[float, ...]
    precision: tuple[float, ...]
    expected: tuple[float, ...]
    found: tuple[float, ...]
    found_low: tuple[float, ...]
    found_high: tuple[float, ...]
    capacity: tuple[float, ...]
    cost_per_day: tuple[float, ...]
    score_edges: tuple[float, ...]
    honest_density: tuple[float, ...]
    fraud_density: tuple[float, ...]


@dataclass(frozen=True)
class ModelResult:
    """One model on everything that it was judged on.

    Attributes:
        name: shown as it is.
        measures: of `logic.measure` or of its parts; what is missing is shown as a dash.
        curves: None for one that gives no probability.
        role: what it is there for.
    """

    name: str
    measures: Mapping[str, Any]
    curves: Curves | None = None
    role: Role = "model"


@dataclass(frozen=True)
class WeekResult:
    """One model in one week under one seed.

    Attributes:
        model: its name.
        week: first day of the week, ISO.
        seed: of the training.
        average_precision: on the week.
        weeks_since_fit: age of the model, weeks.
    """

    model: str
    week: str
    seed: int
    average_precision: float
    weeks_since_fit: float = 0.0


@dataclass(frozen=True)
class Check:
    """One thing that must hold.

    Attributes:
        name: what it is.
        found: what came out, in words.
        bound: what was asked for, in words.
        passed: None where the data cannot tell.
        note: why, where it did not pass.
    """

    name: str
    found: str
    bound: str
    passed: bool | None
    note: str = ""


@dataclass(frozen=True)
class Report:
    """A whole report.

    Attributes:
        title: of the page.
        facts: name -> value, shown first: what was judged, on which days, with how many frauds.
        prevalence: share of fraud, the height of a blind score's precision.
        models: the first is the one that the page is about.
        weeks: by model, week and seed; empty for a single period.
        checks: what had to hold.
        notes: sentences to the reader.
    """

    title: str
    facts: Mapping[str, str]
    prevalence: float
    models: Sequence[ModelResult]
    weeks: Sequence[WeekResult] = ()
    checks: Sequence[Check] = ()
    notes: Sequence[str] = ()


def curves_of(
    events: Labelled,
    p: Vector,
    policy: ThresholdSettings,
    *,
    offsets: Offsets | None = None,
    rounds: int = 200,
    seed: int = 7,
) -> Curves:
    """What the plots show of one score.

    Args:
        events: n labelled events.
        p: fraud probabilities, [n].
        policy: costs and capacity.
        offsets: log-odds taken off before a decision, on which the cost curve rests; None for none.
        rounds: bootstrap resamples of the reliability plot.
        seed: of the bootstrap.
    """
    precision, recall, _ = precision_recall_curve(events.y, p)
    kept = np.unique(np.linspace(0, len(recall) - 1, _CURVE_POINTS).astype(int))
    # Equal steps of recall would lose the start of the curve, equal steps of rank its end: take both.
    kept = np.union1d(kept, np.searchsorted(-recall, -np.linspace(0, 1, _CURVE_POINTS)).clip(0, len(recall) - 1))
    expected, found, low, high = _reliability(events, p, rounds, seed)
    stakes = cost.Stakes.of(policy, events.event_type, events.y, events.day)
    capacity = np.unique([round(policy.review_capacity_per_day * share) for share in _CAPACITIES])
    logs = np.log10(np.clip(p, 1e-6, 1.0))
    edges = np.linspace(min(float(logs.min()), -1.0), 0.0, _SCORE_BINS + 1)
    honest, fraud = (np.histogram(logs[events.y == value], edges, density=True)[0] for value in (0, 1))
    return Curves(
        recall=_plain(recall[kept]),
        precision=_plain(precision[kept]),
        expected=_plain(expected),
        found=_plain(found),
        found_low=_plain(low),
        found_high=_plain(high),
        capacity=_plain(capacity),
        cost_per_day=_plain(cost.cost_curve(stakes, events.alarm_score(p, offsets), capacity.tolist())),
        score_edges=_plain(edges),
        honest_density=_plain(honest),
        fraud_density=_plain(fraud),
    )


def _reliability(events: Labelled, p: Vector, rounds: int, seed: int) -> tuple[Vector, Vector, Vector, Vector]:
    """Expected and found share of fraud, and its interval, by bin of equal expected fraud: [b] each.

    Bins of equal size would put almost all fraud into the last one; with equal expected fraud each bin is as sure.
    """
    order = np.argsort(p, kind="stable")
    filled = np.cumsum(p[order]) / max(float(p.sum()), 1e-300)
    code = np.empty(len(p), np.int64)
    code[order] = np.minimum((filled * _BINS).astype(np.int64), _BINS - 1)
    code = np.unique(code, return_inverse=True)[1]
    bins = int(code.max()) + 1

    def share(weight: Vector) -> Vector:
        with np.errstate(invalid="ignore"):
            return np.asarray(np.bincount(code, weight * events.y, bins) / np.bincount(code, weight, bins))

    rounds_of = cluster_bootstrap(events.cluster, share, rounds=rounds, seed=seed)
    low, high = np.nanquantile(rounds_of, [0.025, 0.975], axis=0)
    size = np.bincount(code, minlength=bins)
    return np.bincount(code, p, bins) / size, np.bincount(code, events.y, bins) / size, low, high


def _plain(values: NDArray[Any]) -> tuple[float, ...]:
    return tuple(float(value) for value in values)
