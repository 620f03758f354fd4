"""Judges every pair on the test days."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from components.errors import TooFewLabels
from components.evaluate import metrics
from components.fuse_and_calibrate.thresholds import policy_cost
from inference_services.policy_settings import ThresholdSettings
from inference_services.transformer.fusion import Thresholds, decide

_CONTEXT = {"event_id", "event_type", "event_timestamp", "rider_id", "y", "typology", "split"}
FALSE_POSITIVE_RATES = (0.001, 0.01, 0.05)


def evaluate(
    scores: pd.DataFrame,
    thresholds: Mapping[str, Thresholds],
    policy: ThresholdSettings,
    *,
    rounds: int = 200,
    seed: int = 7,
) -> dict[str, Any]:
    """The measures of each pair on the split "test".

    Args:
        scores: fused probabilities of `fuse_and_calibrate`, one column per pair.
        thresholds: by event type.
        policy: costs.
        rounds: bootstrap resamples.
        seed: of the bootstrap.

    Returns:
        prevalence, events, fraud, days, and under "pairs" each pair's measures.

    Raises:
        TooFewLabels: the test days have no fraud or no honest events.
    """
    test = scores[scores["split"] == "test"]
    y = test["y"].to_numpy(float)
    if len(np.unique(y)) < 2:
        raise TooFewLabels("split 'test' needs fraud and honest events: wait for labels or widen the dataset")
    pairs = [name for name in scores.columns if name not in _CONTEXT]
    measured = {}
    for name in pairs:
        measured[name] = _measure(test, test[name].to_numpy(float), rounds=rounds, seed=seed)
        measured[name].update(_costs(test, test[name].to_numpy(float), thresholds, policy))
    return {
        "events": len(test),
        "fraud": int(y.sum()),
        "prevalence": float(y.mean()),
        "days": int(test["event_timestamp"].dt.date.nunique()),
        "pairs": measured,
    }


def _measure(test: pd.DataFrame, p: metrics.Vector, *, rounds: int, seed: int) -> dict[str, Any]:
    y = test["y"].to_numpy(float)
    day = test["event_timestamp"].dt.date.to_numpy()
    low, high = metrics.average_precision_interval(y, p, test["rider_id"].to_numpy(), rounds=rounds, seed=seed)
    at_one_percent = metrics.threshold_at_fpr(y, p, 0.01)
    fraud = test[y == 1]
    return {
        "average_precision": metrics.average_precision(y, p),
        "average_precision_95": {"low": low, "high": high},
        "recall_at_fpr": {f"{fpr:.1%}": metrics.recall_at_fpr(y, p, fpr) for fpr in FALSE_POSITIVE_RATES},
        "precision_in_top_100_a_day": metrics.precision_in_top(y, p, day, 100),
        "calibration_error": metrics.calibration_error(y, p),
        "recall_at_1%_fpr_by_typology": {
            str(name): float((p[y == 1][rows] >= at_one_percent).mean())
            for name, rows in fraud.reset_index(drop=True).groupby("typology").indices.items()
        },
    }


def _costs(
    test: pd.DataFrame, p: metrics.Vector, thresholds: Mapping[str, Thresholds], policy: ThresholdSettings
) -> dict[str, Any]:
    """Toman a day under the policy, and what that saves of the cost of allowing everything (an oracle saves all)."""
    types, y = test["event_type"].to_numpy(object), test["y"].to_numpy(float)
    days = test["event_timestamp"].dt.date.nunique()
    decision = decide(thresholds, types, p)
    spent = float(policy_cost(policy, decision, types, y).sum()) / days
    allow_all = float(policy_cost(policy, np.full(len(y), "allow"), types, y).sum()) / days
    return {
        "cost_per_day": spent,
        "cost_saved_per_day": allow_all - spent,
        "cost_saved_share": (allow_all - spent) / allow_all,
        "decisions_per_day": {name: float((decision == name).sum()) / days for name in ("allow", "review", "block")},
    }


def flat_metrics(evaluation: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of an evaluation by dotted name, as a tracking server takes them."""
    flat: dict[str, float] = {}

    def walk(prefix: str, value: Any) -> None:
        if isinstance(value, Mapping):
            for name, inner in value.items():
                # MLflow takes no % in a name.
                walk(f"{prefix}.{name}".strip(".").replace("%", "pct"), inner)
        elif isinstance(value, int | float):
            flat[prefix] = float(value)

    walk("", evaluation)
    return flat
