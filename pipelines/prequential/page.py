"""The report of an evaluation over time, for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from components.evaluate.results import Check, ModelResult, Report, Role, WeekResult, curves_of
from inference_services.policy_settings import ThresholdSettings
from pipelines.prequential.judging import BASELINE, Pool

# Column -> what it is called, and what it is there for; the first is what the page is about.
SHOWN: dict[str, tuple[str, Role]] = {
    "fusion": ("fusion", "model"),
    "lightgbm": ("LightGBM", "model"),
    "gnn": ("graph network", "model"),
    "lightgbm_neighbours": ("LightGBM with neighbours", "baseline"),
    "rules": ("rules", "baseline"),
    "clean_labels_fusion": ("fusion, clean labels", "upper bound"),
    "clean_labels_lightgbm": ("LightGBM, clean labels", "upper bound"),
    "clean_labels_gnn": ("graph network, clean labels", "upper bound"),
    "shuffled_edges_fusion": ("fusion, edges shuffled", "control"),
    "shuffled_edges_gnn": ("graph network, edges shuffled", "control"),
    "shuffled_edges_lightgbm_neighbours": ("LightGBM with neighbours, edges shuffled", "control"),
}
_WITH_CURVES = ("fusion", "lightgbm", "gnn", BASELINE, "clean_labels_fusion")


def report_of(
    pool: Pool,
    measures: Mapping[str, Mapping[str, Any]],
    weeks: Sequence[WeekResult],
    checks: Sequence[Check],
    *,
    policy: ThresholdSettings,
    rounds: int,
) -> Report:
    """The page.

    Args:
        pool: what was judged.
        measures: by column.
        weeks: by column, week and source.
        checks: what had to hold.
        policy: costs.
        rounds: resamples of the reliability plot.
    """
    models = [
        ModelResult(
            name=shown,
            measures=measures[name],
            curves=curves_of(pool.events, pool.score(name), policy, rounds=rounds) if name in _WITH_CURVES else None,
            role=role,
        )
        for name, (shown, role) in SHOWN.items()
        if name in measures
    ]
    named = [
        WeekResult(SHOWN[w.model][0], w.week, w.seed, w.average_precision, w.weeks_since_fit)
        for w in weeks
        if w.model in _WITH_CURVES
    ]
    scores, events = pool.scores, pool.events
    cutoffs = sorted(scores["cutoff"].unique())
    facts = {
        "runs": ", ".join(sorted(scores["source"].unique())),
        "refits": ", ".join(cutoffs),
        "weeks judged": f"{scores['week'].nunique()}, from {scores['week'].min()} on",
        "labelled events": f"{len(scores):,}",
        "fraud": f"{int(events.y.sum()):,} ({events.y.mean():.2%})",
        "resampled": f"{int(events.cluster.max()) + 1:,} clusters: households, dormitories, rings, single riders",
    }
    notes = [
        "Each refit learned from what had arrived before its midnight, by labels that had settled by then, and is "
        "judged on the weeks until the next refit.",
        "Intervals hold 95 % of the resamples. Figures of all weeks and runs are of pooled probabilities.",
    ]
    return Report("Evaluation over time", facts, float(events.y.mean()), models, named, checks, notes)
