"""The whole step: measure the pairs, time both models, and fill the report."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from components.evaluate.labelled import Labelled
from components.evaluate.latency import gnn_ms, lightgbm_ms
from components.evaluate.logic import evaluate, pair_names
from components.evaluate.results import ModelResult, Report, curves_of
from inference_services.alarm_groups import Offsets
from inference_services.policy_settings import ThresholdSettings
from inference_services.transformer.fusion import Thresholds

_NAMES = {"lightgbm_alone": "LightGBM alone", "gnn_alone": "graph network alone"}


def judge(
    scores: pd.DataFrame,
    thresholds: Mapping[str, Thresholds],
    policy: ThresholdSettings,
    *,
    lightgbm: Path,
    gnn: Path,
    offsets: Offsets | None = None,
) -> dict[str, Any]:
    """`logic.evaluate`, and under "latency_ms" the time of each model for one event.

    Args:
        scores: of `fuse_and_calibrate`.
        thresholds: by event type.
        policy: costs.
        lightgbm: folder of the new fraud-lightgbm bundle.
        gnn: folder of the new fraud-gnn bundle.
        offsets: of the fusion bundle; None for none.

    Raises:
        TooFewLabels: the test days have no fraud or no honest events.
        BundleError: a bundle cannot be used.
    """
    found = evaluate(scores, thresholds, policy, offsets=offsets)
    return {**found, "latency_ms": {"lightgbm": lightgbm_ms(lightgbm), "gnn": gnn_ms(gnn)}}


def report_of(
    scores: pd.DataFrame, found: Mapping[str, Any], policy: ThresholdSettings, offsets: Offsets | None = None
) -> Report:
    """The page of one pipeline run.

    Args:
        scores: what was judged.
        found: of `judge`.
        policy: costs.
        offsets: of the fusion bundle; None for none.
    """
    test = scores[scores["split"] == "test"]
    events = Labelled.of(test, "split 'test'")
    models = [
        ModelResult(
            name=_NAMES.get(name, name.replace("_", " ")),
            measures=found["pairs"][name],
            curves=curves_of(events, test[name].to_numpy(float), policy, offsets=offsets),
            role="baseline" if name == "champion" else "model",
        )
        for name in pair_names(scores)
    ]
    first, last = test["event_timestamp"].min(), test["event_timestamp"].max()
    latency = found["latency_ms"]
    facts = {
        "days": f"{first:%Y-%m-%d} to {last:%Y-%m-%d}",
        "labelled events": f"{found['events']:,}",
        "fraud": f"{found['fraud']:,} ({found['prevalence']:.2%})",
        "resampled": f"{found['clusters']:,} clusters of riders who share a phone or a card",
        "one event takes": f"{latency['lightgbm']:.2f} ms (LightGBM), {latency['gnn']:.2f} ms (graph network)",
    }
    notes = [
        "Labels are those that had arrived when the dataset was cut; mature events without one count as honest.",
        "Intervals hold 95 % of the resamples. A small count of fraud makes them wide: read them before the values.",
    ]
    if offsets:
        notes.append(
            f"Alarms are made equally frequent among honest events of each {' and '.join(offsets)}: recall at a false "
            "positive rate, costs and rates by group are of the scores so adjusted; average precision and calibration "
            "are of the probability."
        )
    return Report("Evaluation on the test days", facts, found["prevalence"], models, notes=notes)
