"""Judges every pair on the test days."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd

from components.evaluate import calibration, cost, fairness, metrics
from components.evaluate.bootstrap import (
    Interval,
    average_precision_interval,
    average_precision_of,
    cluster_bootstrap,
    interval,
    paired_bootstrap,
)
from components.evaluate.labelled import CONTEXT_COLUMNS, Labelled, Vector
from inference_services.alarm_groups import Offsets
from inference_services.policy_settings import ThresholdSettings
from inference_services.transformer.fusion import Thresholds, decide

FALSE_POSITIVE_RATES = (0.001, 0.01, 0.05)
# Where an alarm is common enough for the groups' rates to be compared.
FAIRNESS_FPR = 0.05
TOP_SHARE = 0.01
# The pairs that will answer, and the one that answers now.
ANSWERING = ("challenger", "lightgbm_canary", "gnn_canary")
CHAMPION = "champion"


def evaluate(
    scores: pd.DataFrame,
    thresholds: Mapping[str, Thresholds],
    policy: ThresholdSettings,
    *,
    offsets: Offsets | None = None,
    rounds: int = 200,
    seed: int = 7,
) -> dict[str, Any]:
    """The measures of each pair on the split "test".

    Args:
        scores: fused probabilities of `fuse_and_calibrate`, one column per pair.
        thresholds: by event type.
        policy: costs.
        offsets: of the fusion bundle, see `measure`.
        rounds: bootstrap resamples.
        seed: of the bootstrap.

    Returns:
        prevalence, events, fraud, days, clusters, and under "pairs" each pair's measures; with a champion, each
        answering pair's `minus_champion` too. NaN where a measure has no answer.

    Raises:
        TooFewLabels: the test days have no fraud or no honest events.
    """
    test = scores[scores["split"] == "test"]
    events = Labelled.of(test, "split 'test'")
    p = {name: test[name].to_numpy(float) for name in pair_names(scores)}
    pairs = {
        name: measure(events, score, thresholds, policy, offsets=offsets, rounds=rounds, seed=seed)
        for name, score in p.items()
    }
    for name in ANSWERING if CHAMPION in p else ():
        pairs[name]["minus_champion"] = compare(events, p[name], p[CHAMPION], rounds=rounds, seed=seed)
    return {
        "events": len(test),
        "fraud": int(events.y.sum()),
        "prevalence": float(events.y.mean()),
        "days": events.days,
        "clusters": int(events.cluster.max()) + 1,
        "pairs": pairs,
    }


def pair_names(scores: pd.DataFrame) -> list[str]:
    """The columns of a scores frame that are a pair's probability."""
    return [str(name) for name in scores.columns if name not in CONTEXT_COLUMNS]


def measure(
    events: Labelled,
    p: Vector,
    thresholds: Mapping[str, Thresholds],
    policy: ThresholdSettings,
    *,
    rounds: int,
    seed: int,
    offsets: Offsets | None = None,
) -> dict[str, Any]:
    """Every measure of one score, JSON-ready.

    Average precision and calibration are of the probability. What an alarm or a decision does (recall at a false
    positive rate, the top of a day, costs, rates by group) is of the score that decisions are made on.

    Args:
        events: n labelled events.
        p: fraud probabilities, [n].
        thresholds: by event type.
        policy: costs.
        offsets: log-odds taken off before a decision, by division and group; None for none.
        rounds: bootstrap resamples.
        seed: of the bootstrap; equal seeds make intervals of several scores comparable.
    """
    alarm = events.alarm_score(p, offsets)
    return {
        **ranking(events, p, alarm=alarm, rounds=rounds, seed=seed),
        **calibrated(events, p, rounds=rounds, seed=seed),
        **costs(events, decide(thresholds, events.event_type, alarm), alarm, policy),
        "fairness": fair(events, alarm, rounds=rounds, seed=seed),
    }


def ranking(events: Labelled, score: Vector, *, rounds: int, seed: int, alarm: Vector | None = None) -> dict[str, Any]:
    """What needs an order only, so that rules and raw scores can be judged too.

    Args:
        events: n labelled events.
        score: what average precision is of, [n].
        rounds: bootstrap resamples.
        seed: of the bootstrap.
        alarm: what alarms are decided on, [n]; None for the score itself.
    """
    y, alarm = events.y, score if alarm is None else alarm
    found = average_precision_interval(y, score, events.cluster, rounds=rounds, seed=seed)
    return {
        "average_precision": found.value,
        "average_precision_95": {"low": found.low, "high": found.high},
        "recall_at_fpr": {f"{fpr:.1%}": metrics.recall_at_fpr(y, alarm, fpr) for fpr in FALSE_POSITIVE_RATES},
        "precision_in_top_100_a_day": metrics.precision_in_top(y, alarm, events.day, 100),
        **{
            f"recall_at_{fpr:.0%}_fpr_by_typology": metrics.recall_by_typology(y, alarm, events.typology, fpr)
            for fpr in FALSE_POSITIVE_RATES[1:]
        },
        "average_precision_by_typology": {
            name: metrics.typology_average_precision(y, score, events.typology, [name]) for name in events.typologies
        },
    }


def calibrated(events: Labelled, p: Vector, *, rounds: int, seed: int) -> dict[str, Any]:
    """Whether the probabilities mean what they say, with intervals."""
    y = events.y
    line, of_line = calibration.calibration_line(y, p), calibration.calibration_line_of(y, p)
    of_top = calibration.top_error_of(y, p, TOP_SHARE)

    def all_four(weight: Vector) -> Vector:
        return np.array([*of_line(weight), calibration.brier_skill(y, p, weight), of_top(weight)])

    values = [line.slope, line.intercept, calibration.brier_skill(y, p), calibration.top_error(y, p, TOP_SHARE)]
    resampled = cluster_bootstrap(events.cluster, all_four, rounds=rounds, seed=seed).T
    names = ("calibration_slope", "calibration_intercept", "brier_skill", "top_1%_relative_error")
    return {
        "calibration_error": calibration.calibration_error(y, p),
        **{name: asdict(interval(value, drawn)) for name, value, drawn in zip(names, values, resampled, strict=True)},
    }


def costs(events: Labelled, decision: metrics.Names, priority: Vector, policy: ThresholdSettings) -> dict[str, Any]:
    """Toman a day of the decisions under the policy, and what they save; `cost` defines the oracles.

    Args:
        events: n labelled events.
        decision: "allow", "review" or "block", [n].
        priority: by which the reviewers take a day's queue, [n].
        policy: costs and capacity.
    """
    stakes = cost.Stakes.of(policy, events.event_type, events.y, events.day)
    spent = cost.spend(stakes, decision, priority)
    return {
        "cost_per_day": spent.cost_per_day,
        "cost_saved_per_day": spent.saved_per_day,
        "cost_saved_share": spent.saved_share,
        "cost_saved_share_of_review_oracle": spent.saved_share_of_review_oracle,
        "good_blocked_share": spent.good_blocked_share,
        "decisions_per_day": {
            name: float((decision == name).sum()) / events.days for name in ("allow", "review", "block")
        },
        "reviews_over_capacity_per_day": spent.reviews_over_capacity_per_day,
    }


def fair(events: Labelled, score: Vector, *, rounds: int, seed: int) -> dict[str, Any]:
    """False positive rates by group at the threshold of 5 %, by division, and which groups were too small.

    Args:
        events: n labelled events.
        score: what alarms are decided on, [n].
        rounds: bootstrap resamples.
        seed: of the bootstrap.
    """
    flagged = score >= metrics.threshold_at_fpr(events.y, score, FAIRNESS_FPR)
    result = {}
    for division, group in events.groups.items():
        found = fairness.false_positive_rates(events.y, flagged, group, events.cluster, rounds=rounds, seed=seed)
        result[division] = {
            "ratio": asdict(found.ratio),
            "recall_at_equal_rates": fairness.recall_at_equal_rates(events.y, score, group, FAIRNESS_FPR),
            "groups": {g.group: {"honest": g.honest, "compared": g.compared, **asdict(g.rate)} for g in found.groups},
        }
    return result


def compare(events: Labelled, first: Vector, second: Vector, *, rounds: int, seed: int) -> dict[str, Any]:
    """First minus second in average precision, resampled together."""
    paired = paired_bootstrap(
        events.cluster,
        average_precision_of(events.y, first),
        average_precision_of(events.y, second),
        rounds=rounds,
        seed=seed,
    )
    return {"average_precision": asdict(paired.difference())}


def flat_metrics(evaluation: Mapping[str, Any]) -> dict[str, float]:
    """The finite numbers of an evaluation by dotted name, as a tracking server takes them."""
    flat: dict[str, float] = {}

    def walk(prefix: str, value: Any) -> None:
        if isinstance(value, Mapping):
            for name, inner in value.items():
                # MLflow takes no % in a name.
                walk(f"{prefix}.{name}".strip(".").replace("%", "pct"), inner)
        elif isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
            flat[prefix] = float(value)

    walk("", evaluation)
    return flat


def to_json(value: Any) -> str:
    """JSON that every reader takes: a number that has no answer is null, not NaN."""
    return json.dumps(_finite(value), indent=2, allow_nan=False) + "\n"


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _finite(inner) for name, inner in value.items()}
    if isinstance(value, Interval):
        return _finite(asdict(value))
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    return value
