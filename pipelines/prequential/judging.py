"""Measures of every column of collected scores, over all weeks and seeds together."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from components.evaluate import logic, metrics
from components.evaluate.bootstrap import Paired, average_precision_of, paired_bootstrap
from components.evaluate.labelled import Labelled
from components.evaluate.results import WeekResult
from inference_services.policy_settings import ThresholdSettings
from pipelines.prequential.collect import ALARM, DECISION

Vector = NDArray[np.float64]
# What shows in who meets whom, more than in what each does.
GRAPH_TYPOLOGIES = ("collusion", "multi_accounting")
BASELINE = "lightgbm_neighbours"


@dataclass(frozen=True)
class Pool:
    """The judged events of all sources.

    Attributes:
        scores: of `collect`, of each source.
        events: the same as arrays; a day is one of one source, since each has reviewers of its own.
        stratum: code of the dataset, [n]; resampled within.
    """

    scores: pd.DataFrame
    events: Labelled
    stratum: NDArray[np.int64]

    @classmethod
    def of(cls, scores: pd.DataFrame) -> Pool:
        """Pools what `collect` gave.

        Raises:
            TooFewLabels: no fraud, or no honest event.
        """
        events = Labelled.of(scores)
        source = pd.factorize(scores["source"])[0].astype(np.int64)
        of_arrival = (scores["arrived"] - scores["arrived"].min().normalize()).dt.days.to_numpy(np.int64)
        day = np.unique(source * (of_arrival.max() + 1) + of_arrival, return_inverse=True)[1]
        # One dataset under several seeds has each event several times: they are resampled together.
        cluster = pd.factorize(scores["dataset"].astype(str) + " " + scores["cluster"].astype(str))[0]
        stratum = np.unique(scores["dataset"].to_numpy(str), return_inverse=True)[1]
        pooled = replace(events, day=day.astype(np.int64), days=int(day.max()) + 1, cluster=cluster.astype(np.int64))
        return cls(scores, pooled, stratum.astype(np.int64))

    def with_scores(self, *names: str) -> Pool:
        """The events that have a score in all of the columns: controls are trained on some refits only."""
        there = np.isfinite(self.scores[list(names)].to_numpy(float)).all(1)
        return self if there.all() else Pool.of(self.scores[there].reset_index(drop=True))

    def score(self, name: str) -> Vector:
        """A column of probabilities, [n]."""
        return self.scores[name].to_numpy(float)


def of_model(pool: Pool, name: str, policy: ThresholdSettings, rounds: int) -> dict[str, Any]:
    """Every measure of a model's column, JSON-ready."""
    p, alarm, events = pool.score(name), pool.score(name + ALARM), pool.events
    return {
        **logic.ranking(events, p, alarm=alarm, rounds=rounds, seed=7),
        **logic.calibrated(events, p, rounds=rounds, seed=7),
        **logic.costs(events, pool.scores[name + DECISION].to_numpy(object), alarm, policy),
        "fairness": logic.fair(events, alarm, rounds=rounds, seed=7),
    }


def of_rules(pool: Pool, policy: ThresholdSettings, rounds: int) -> dict[str, Any]:
    """The measures of the rules; who breaks the most is reviewed first."""
    broken, decision = pool.score("rules"), pool.scores["rules" + DECISION].to_numpy(object)
    ranked = logic.ranking(pool.events, broken, rounds=rounds, seed=7)
    return {**ranked, **logic.costs(pool.events, decision, broken, policy)}


def by_week(pool: Pool, names: list[str]) -> list[WeekResult]:
    """Average precision of models by source and week."""
    found = []
    for _, rows in pool.scores.groupby(["source", "seed", "week"], sort=True):
        week, cutoff, seed = (rows[column].iloc[0] for column in ("week", "cutoff", "seed"))
        age = (date.fromisoformat(week) - date.fromisoformat(cutoff)).days / 7
        for name in names:
            if rows[name].isna().any():
                continue
            value = metrics.average_precision(rows["y"].to_numpy(float), rows[name].to_numpy(float))
            found.append(WeekResult(name, week, int(seed), value, age))
    return found


def graph_gain(pool: Pool, first: str, second: str, rounds: int) -> Paired:
    """Average precision of two columns on the fraud of `GRAPH_TYPOLOGIES` against honest events, resampled together."""
    events = pool.events
    rows = np.flatnonzero(metrics.typology_rows(events.y, events.typology, GRAPH_TYPOLOGIES))
    y = events.y[rows]
    return paired_bootstrap(
        events.cluster[rows],
        average_precision_of(y, pool.score(first)[rows]),
        average_precision_of(y, pool.score(second)[rows]),
        rounds=rounds,
        seed=7,
        stratum=pool.stratum[rows],
    )


def blind_by_type(pool: Pool, rows: NDArray[Any]) -> float:
    """Average precision of a score that knows an event's type and nothing else."""
    y, code = pool.events.y[rows], pd.factorize(pool.events.event_type[rows])[0]
    rate = np.bincount(code, y) / np.bincount(code)
    return metrics.average_precision(y, rate[code])
