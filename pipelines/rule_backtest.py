"""What each rule would have caught and cost on a dataset, judged by the labels that have come in for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from components.build_training_set.logic import label_events
from components.evaluate.cost import Stakes, event_cost
from feature_repo.datasets import Dataset
from feature_repo.event_batch import EventBatch
from feature_repo.event_schemas import SCORED_EVENT_TYPES
from feature_repo.feature_names import MODEL_FEATURES
from feature_repo.historical import training_frame
from inference_services.policy_settings import ThresholdSettings
from inference_services.transformer.rules.outcome import RuleVerdict
from inference_services.transformer.rules.rule_file import Action, Rule
from inference_services.transformer.rules.rule_set import RuleSet
from pipelines.errors import StepError

Progress = Callable[[int, int], None]
Mask = NDArray[np.bool_]
ALL_TYPES = "all"
ALL_RULES = "all live rules"
_CHUNK = 4096


@dataclass(frozen=True, slots=True)
class History:
    """The scored events of a dataset, as they were when they arrived, and what is known of them by its cutoff.

    Attributes:
        events: n scored events in stream order.
        frame: event_type, event_timestamp, MODEL_FEATURES and y (1.0, 0.0, NaN where nobody knows yet), n rows.
    """

    events: pa.Table
    frame: pd.DataFrame

    @classmethod
    def of(cls, dataset: Dataset, policy: ThresholdSettings, work: Path, progress: Progress | None = None) -> History:
        """Joins a dataset's features and labels; see `training_frame` and `label_events`."""
        frame = training_frame(dataset.path, work, progress)
        labelled = label_events(frame, dataset.label_frame(), dataset.cutoff, policy.label_maturation_days)
        table = dataset.event_table()
        scored = table.filter(pc.is_in(table.column("event_type"), value_set=pa.array(SCORED_EVENT_TYPES)))
        return cls(scored, labelled)


@dataclass(frozen=True, slots=True)
class RuleResult:
    """What a rule did on history.

    Attributes:
        rule: its name, or ALL_RULES: each event decided by the first live rule that matches it.
        mode: live or dry_run.
        action: allow, review or block; none for all rules together.
        event_type: one of its event types, or ALL_TYPES of them together.
        events: how many there were.
        matches: how many it matched.
        fraud: matches that were fraud.
        honest: matches that were honest.
        unlabelled: matches of which nobody knows yet; they are in none of the figures below.
        errors: events at which its condition failed.
        precision: fraud among its labelled matches; None without one.
        recall: matches among the known frauds; None without one.
        false_positive_rate: matches among the known honest events; None without one.
        saved: toman, against allowing every event; a rule that allows saves nothing, and costs no more than `at_risk`.
        at_risk: toman, what its matches that were fraud would have cost had they been allowed.
    """

    rule: str
    mode: str
    action: Action | None
    event_type: str
    events: int
    matches: int
    fraud: int
    honest: int
    unlabelled: int
    errors: int
    precision: float | None
    recall: float | None
    false_positive_rate: float | None
    saved: float
    at_risk: float

    def to_json(self) -> dict[str, Any]:
        """The figures by name."""
        return asdict(self)


def choose(rules: RuleSet, names: Sequence[str]) -> list[Rule]:
    """The rules of these names, in the file's order; all without names.

    Raises:
        StepError: there is no such rule.
    """
    known = [rule.name for rule in rules.rules]
    for name in names:
        if name not in known:
            raise StepError(f"no rule {name!r} in the file; there are {', '.join(known) or 'none'}")
    return [rule for rule in rules.rules if not names or rule.name in names]


def backtest(
    rules: RuleSet,
    history: History,
    policy: ThresholdSettings,
    chosen: Sequence[Rule],
    progress: Progress | None = None,
) -> list[RuleResult]:
    """Runs the rules over history.

    Args:
        rules: the file's rules; dry ones are measured as if they were live.
        history: the events.
        policy: what mistakes cost.
        chosen: the rules to report; where these are all, the live rules together come last.
        progress: called with (events judged, events in all).
    """
    n = len(history.frame)
    stakes = Stakes.of(
        policy, history.frame["event_type"].to_numpy(object), history.frame["y"].to_numpy(float), np.zeros(n)
    )
    matched = {rule.name: np.zeros(n, np.bool_) for rule in rules.rules}
    failed = {rule.name: np.zeros(n, np.bool_) for rule in rules.rules}
    decisions = np.full(n, "allow", object)
    together = np.zeros(n, np.bool_)
    for row, verdict in enumerate(_verdicts(rules, history, progress)):
        for name in (*verdict.matched, *verdict.dry_run):
            matched[name][row] = True
        for name in verdict.failed:
            failed[name][row] = True
        if verdict.decided_by is not None:
            decisions[row], together[row] = verdict.decided_by.action, True
    kinds = history.frame["event_type"].to_numpy(object)
    results = []
    for rule in chosen:
        alone = np.where(matched[rule.name], rule.action, "allow").astype(object)
        mode = "dry_run" if rule.dry_run else "live"
        for kind, of_kind in _groups(kinds, rule.event_types):
            hits = matched[rule.name] & of_kind
            result = _result(stakes, of_kind, hits, alone, int((failed[rule.name] & of_kind).sum()))
            results.append(RuleResult(rule.name, mode, rule.action, kind, **result))
    if len(chosen) == len(rules.rules):
        every = np.ones(n, np.bool_)
        result = _result(stakes, every, together, decisions, 0)
        results.append(RuleResult(ALL_RULES, "live", None, ALL_TYPES, **result))
    return results


def _groups(kinds: NDArray[Any], event_types: Sequence[str]) -> Iterator[tuple[str, Mask]]:
    yield ALL_TYPES, np.isin(kinds, event_types)
    if len(event_types) > 1:
        yield from ((name, kinds == name) for name in event_types)


def _verdicts(rules: RuleSet, history: History, progress: Progress | None) -> Iterator[RuleVerdict]:
    n = len(history.frame)
    columns = {name: history.frame[name].to_numpy() for name in MODEL_FEATURES}
    for start in range(0, n, _CHUNK):
        batch = EventBatch.from_arrow(history.events.slice(start, _CHUNK))
        features = {name: column[start : start + _CHUNK] for name, column in columns.items()}
        yield from rules.judge(batch, features).verdicts
        if progress is not None:
            progress(min(start + _CHUNK, n), n)


def _result(stakes: Stakes, of_kind: Mask, hits: Mask, decisions: NDArray[Any], errors: int) -> dict[str, Any]:
    fraud, honest = stakes.y == 1.0, stakes.y == 0.0
    known = hits & (fraud | honest)
    caught, wronged = int((hits & fraud).sum()), int((hits & honest).sum())
    nothing = np.full(len(decisions), "allow", object)
    saved = event_cost(stakes, nothing)[known].sum() - event_cost(stakes, decisions)[known].sum()
    return {
        "events": int(of_kind.sum()),
        "matches": int(hits.sum()),
        "fraud": caught,
        "honest": wronged,
        "unlabelled": int(hits.sum()) - caught - wronged,
        "errors": errors,
        "precision": _share(caught, caught + wronged),
        "recall": _share(caught, int((of_kind & fraud).sum())),
        "false_positive_rate": _share(wronged, int((of_kind & honest).sum())),
        "saved": float(saved),
        "at_risk": float(stakes.missed[hits & fraud].sum()),
    }


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
