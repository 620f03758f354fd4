"""Puts the scores of all models side by side, fuses them, and decides: one row for each judged event."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from components.evaluate.cost import Stakes, spend
from components.evaluate.rules import rule_score
from components.fuse_and_calibrate.logic import fit_pair
from components.fuse_and_calibrate.step import alarm_offsets_of
from components.fuse_and_calibrate.thresholds import cheapest_thresholds
from inference_services.alarm_groups import Offsets, alarm_groups, alarm_offset, alarm_score
from inference_services.calibration import sigmoid
from inference_services.policy_settings import ThresholdSettings
from inference_services.transformer.fusion import Thresholds, decide
from pipelines.prequential import protocol
from pipelines.prequential.jobs import Job, Variant
from pipelines.prequential.material import Material, Source
from pipelines.prequential.protocol import Refit
from pipelines.prequential.settings import PrequentialSettings

# By variant and model, see `contenders.log_odds`.
Scored = dict[tuple[Variant, str], pd.DataFrame]
FUSION = "fusion"
# Column of a variant's model: the model's name for late labels, with the variant before it for the others.
DECISION = "_decision"
# What the decision was made on: the probability, its groups' offsets taken off.
ALARM = "_alarm"
CONTEXT = [
    "event_id",
    "event_type",
    "event_timestamp",
    "rider_id",
    "city",
    "rider_tenure_days",
    "device_gps_accuracy_m",
    "cluster",
]


def column(variant: Variant, model: str) -> str:
    """The column of a model's probability."""
    return model if variant == "late_labels" else f"{variant}_{model}"


def horizon(source: Source, policy: ThresholdSettings) -> date:
    """The first day that cannot be judged: after the last that arrived, or whose labels have settled."""
    end = source.dataset.last_day + timedelta(days=1)
    if source.truth is not None:
        return end
    events = source.dataset.event_table().select(["event_id", "event_type"]).to_pandas()
    cutoff = source.dataset.cutoff
    window = protocol.longest_window(events, source.dataset.label_frame(), cutoff, policy)
    return min(end, cutoff - timedelta(days=window))


def check_history(source: Source, refit: Refit, policy: ThresholdSettings, settings: PrequentialSettings) -> None:
    """Before hours are spent: the first refit must have days to train on.

    Raises:
        StepError: it has none.
    """
    events = source.dataset.event_table().select(["event_id", "event_type", "ingested_at"]).to_pandas()
    known = events[events["ingested_at"] < protocol.midnight(refit.cutoff)]
    window = protocol.longest_window(known, source.dataset.label_frame(), refit.cutoff, policy)
    protocol.splits_before(source.dataset.first_day, refit.cutoff - timedelta(days=window), settings)


def collect(source: Source, refits: list[Refit], jobs: list[Job], policy: ThresholdSettings) -> pd.DataFrame:
    """The judged events of a source.

    Returns:
        `CONTEXT`, arrived, y, typology, source, seed, dataset, cutoff, week, rules (how many are broken) and
        the rules' decision, and for each model its probability, its alarm score and its decision.
    """
    frame = pd.read_parquet(Material.of(source.dataset, jobs[0].material.folder.parent).frame)
    parts = []
    for refit in refits:
        rows = _answers(source, protocol.judged(frame, refit), policy)
        scored: Scored = {(job.variant, job.model): pd.read_parquet(job.out) for job in jobs if job.refit == refit}
        settled = scored["late_labels", "lightgbm"]
        least = least_broken(frame.merge(settled.loc[settled["split"] == "calibrate", ["event_id", "y"]]), policy)
        rules = np.where(rows["rules"] >= least, "review", "allow")
        rows = rows.assign(cutoff=str(refit.cutoff), week=_weeks(rows, refit), **{"rules" + DECISION: rules})
        parts.append(_with_scores(rows, frame, scored, policy))
    found = pd.concat(parts, ignore_index=True)
    return found.assign(source=source.name, seed=source.seed, dataset=source.dataset.sha12)


def least_broken(settled: pd.DataFrame, policy: ThresholdSettings) -> int:
    """From how many broken rules on a review saves the most: what the team learnt from the days to calibrate on.

    Args:
        settled: their events with `MODEL_FEATURES`, arrived and y.
        policy: costs and capacity; who breaks the most is reviewed first.
    """
    broken = rule_score(settled)
    types, y = settled["event_type"].to_numpy(object), settled["y"].to_numpy(float)
    stakes = Stakes.of(policy, types, y, settled["arrived"].dt.date.to_numpy())
    # One more than anybody breaks: to review nothing is a choice too.
    choices = range(1, int(broken.max(initial=0)) + 2)
    saved = [spend(stakes, np.where(broken >= k, "review", "allow"), broken).saved_per_day for k in choices]
    return choices[int(np.argmax(saved))]


def _answers(source: Source, rows: pd.DataFrame, policy: ThresholdSettings) -> pd.DataFrame:
    """The events with the best answer that there is, and the rules' score; those without an answer left out."""
    rules = rule_score(rows)
    context = rows[[*CONTEXT, "arrived"]].assign(rules=rules)
    if source.truth is None:
        known = protocol.as_known(context, source.dataset.label_frame(), source.dataset.cutoff, policy)
        return known[known["y"].notna()].reset_index(drop=True)
    known = protocol.with_truth(context, source.truth)
    ring = known["event_id"].map(source.truth.set_index("event_id")["ring_id"])
    # A ring is resampled whole, and so are the households and the dormitories.
    return known.assign(cluster=known["cluster"].astype(str).where(ring.isna(), "ring " + ring.astype(str)))


def _weeks(rows: pd.DataFrame, refit: Refit) -> pd.Series:
    """The first day of the week in which each event arrived, ISO."""
    number = (rows["arrived"] - protocol.midnight(refit.cutoff)).dt.days // 7
    return number.map({k: str(day) for k, day in enumerate(refit.weeks())})


def _with_scores(rows: pd.DataFrame, frame: pd.DataFrame, scored: Scored, policy: ThresholdSettings) -> pd.DataFrame:
    odds = {key: of.set_index("event_id") for key, of in scored.items()}
    for variant in dict.fromkeys(variant for variant, _ in scored):
        # Shuffled edges leave the features, and so the trees that read nothing else, as they are.
        trees = odds.get((variant, "lightgbm"), odds.get(("late_labels", "lightgbm")))
        graph = odds.get((variant, "gnn"))
        if trees is not None and graph is not None:
            odds[variant, FUSION] = _fused(trees, graph)
    columns: dict[str, NDArray[Any]] = {}
    types = rows["event_type"].to_numpy(object)
    groups = alarm_groups(rows["city"].to_numpy(object), rows["rider_tenure_days"].to_numpy(float))
    known = frame.set_index("event_id")[["city", "rider_tenure_days"]]
    for (variant, model), of in odds.items():
        name = column(variant, model)
        offsets, thresholds = _policy_of(of[of["split"] == "calibrate"].join(known), policy)
        columns[name] = sigmoid(rows["event_id"].map(of["log_odds"]).to_numpy(float))
        columns[name + ALARM] = alarm_score(columns[name], alarm_offset(offsets, groups, len(rows)))
        columns[name + DECISION] = decide(thresholds, types, columns[name + ALARM])
    return rows.assign(**columns)


def _fused(trees: pd.DataFrame, graph: pd.DataFrame) -> pd.DataFrame:
    """The fusion of two models, fitted on the events to calibrate on."""
    other = graph["log_odds"].reindex(trees.index).to_numpy(float)
    own = trees["log_odds"].to_numpy(float)
    fit = (trees["split"] == "calibrate").to_numpy()
    weights, intercept = fit_pair(own[fit], other[fit], trees["y"].to_numpy(float)[fit])
    return trees.assign(log_odds=weights[0] * own + weights[1] * other + intercept)


def _policy_of(calibrate: pd.DataFrame, policy: ThresholdSettings) -> tuple[Offsets, dict[str, Thresholds]]:
    """The offsets and the cheapest thresholds by the events to calibrate on, as `fuse_and_calibrate` takes them.

    Args:
        calibrate: event_type, arrived, y, log_odds, city and rider_tenure_days.
        policy: costs, capacity, and whose alarm rates are to be equal.
    """
    probability = sigmoid(calibrate["log_odds"].to_numpy(float))
    offsets, offset = alarm_offsets_of(calibrate, probability, policy)
    types, days = calibrate["event_type"].to_numpy(object), calibrate["arrived"].dt.date.nunique()
    return offsets, cheapest_thresholds(policy, types, alarm_score(probability, offset), days)
