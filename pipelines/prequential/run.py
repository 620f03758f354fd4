"""The whole evaluation: plan, make what all share, train what is missing, collect, judge, report."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from components.evaluate.logic import to_json
from components.evaluate.report import render
from components.evaluate.results import Report
from inference_services.policy_settings import ThresholdSettings
from pipelines.prequential import judging
from pipelines.prequential.checks import GraphGain, control_checks, shuffled_labels
from pipelines.prequential.collect import DECISION, check_history, collect, horizon
from pipelines.prequential.jobs import CODE, jobs_of
from pipelines.prequential.judging import Pool
from pipelines.prequential.material import Material, Source, write_leak_check
from pipelines.prequential.page import SHOWN, report_of
from pipelines.prequential.protocol import plan
from pipelines.prequential.settings import PrequentialSettings
from pipelines.prequential.tasks import Task, code_digest, perform_all

Bar = Callable[[str], Callable[[int, int], None]]


@dataclass(frozen=True)
class Evaluation:
    """What came out.

    Attributes:
        scores: one row for each judged event, see `collect`.
        measures: by column.
        gain: of the graph.
        shuffled_labels: see `checks.shuffled_labels`.
        leaks: see `material.write_leak_check`.
        report: the page.
    """

    scores: pd.DataFrame
    measures: dict[str, dict[str, Any]]
    gain: GraphGain
    shuffled_labels: dict[str, Any]
    leaks: dict[str, Any]
    report: Report

    def write(self, folder: Path) -> None:
        """Writes report.html, evaluation.json and scores.parquet."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "report.html").write_text(render(self.report), "utf-8")
        content = {
            "facts": self.report.facts,
            "prevalence": self.report.prevalence,
            "models": self.measures,
            "weeks": [asdict(week) for week in self.report.weeks],
            "graph_gain": {**asdict(self.gain), "share_left_when_edges_are_shuffled": self.gain.share_left},
            "shuffled_labels": self.shuffled_labels,
            "leaks": self.leaks,
            "checks": [asdict(check) for check in self.report.checks],
        }
        (folder / "evaluation.json").write_text(to_json(content), "utf-8")
        self.scores.to_parquet(folder / "scores.parquet", index=False)


def evaluate_over_time(
    sources: Sequence[Source], settings: PrequentialSettings, policy: ThresholdSettings, work: Path, bar: Bar
) -> Evaluation:
    """Evaluates all contenders on the last weeks of each source.

    Args:
        sources: datasets with the seeds of their models.
        settings: the protocol and the budgets.
        policy: costs, capacity, maturation.
        work: where files are kept; a run that was interrupted goes on from them.
        bar: title -> progress callback.

    Raises:
        StepError: a dataset is too short.
        TooFewLabels: a split, or what is judged, lacks fraud or honest events.
    """
    plans = [plan(s.dataset.first_day, horizon(s, policy), settings) for s in sources]
    for source, refits in zip(sources, plans, strict=True):
        check_history(source, refits[0], policy, settings)
    materials = list(dict.fromkeys(Material.of(s.dataset, work) for s in sources))
    shared = [task for material in materials for task in material.tasks()]
    perform_all(shared, settings.workers, bar("features and shuffled logs"))
    jobs = [jobs_of(s, refits, settings, policy, work) for s, refits in zip(sources, plans, strict=True)]
    leaks = _leak_task(materials[0], settings)
    training = list({job.out: job.task() for of_source in jobs for job in of_source}.values())
    perform_all([leaks, *training], settings.workers, bar("models trained and scored"))
    scores = [
        collect(source, refits, of_source, policy)
        for source, refits, of_source in zip(sources, plans, jobs, strict=True)
    ]
    found = json.loads(leaks.out.read_text("utf-8"))
    return _judge(pd.concat(scores, ignore_index=True), found, settings, policy, bar)


def _leak_task(material: Material, settings: PrequentialSettings) -> Task:
    code = code_digest(*CODE)[:12]
    out = material.folder / f"leaks-{settings.prefix_days}-{settings.gnn.window_days}-{code}.json"
    return Task(out, write_leak_check, (material, settings.prefix_days, settings.gnn.window_days))


def _judge(
    scores: pd.DataFrame, leaks: dict[str, Any], settings: PrequentialSettings, policy: ThresholdSettings, bar: Bar
) -> Evaluation:
    pool, rounds = Pool.of(scores), settings.bootstrap_rounds
    names = [name for name in SHOWN if name + DECISION in scores and name != "rules"]
    progress = bar("models judged")
    measures = {"rules": judging.of_rules(pool, policy, rounds)}
    for done, name in enumerate(names, 1):
        measures[name] = judging.of_model(pool.with_scores(name), name, policy, rounds)
        progress(done, len(names))
    gain = GraphGain.of(pool, rounds)
    chance = shuffled_labels(pool, rounds)
    weeks = judging.by_week(pool, names)
    checks = control_checks(gain, chance, leaks)
    report = report_of(pool, measures, weeks, checks, policy=policy, rounds=rounds)
    return Evaluation(scores, measures, gain, chance, leaks, report)
