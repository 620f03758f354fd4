"""A checked set of rules, and what it says of events: pure, so that serving, replay and backtests agree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from cel_expr_python import cel
from numpy.typing import NDArray

from feature_repo.event_batch import EventBatch
from feature_repo.event_schemas import CATALOGUE, SCORED_EVENT_TYPES
from inference_services.errors import BadSettings
from inference_services.transformer.rules.language import LISTED, BadExpression, Condition, Language
from inference_services.transformer.rules.outcome import NOTHING, RuleOutcome, RuleVerdict
from inference_services.transformer.rules.rule_file import Rule, RuleFile, parse

_EPOCH = date(1970, 1, 1).toordinal()
_DAY_US = 86_400_000_000


@dataclass(frozen=True)
class _Checked:
    """A rule with its compiled condition, and the day from which on it is over, counted since the epoch."""

    rule: Rule
    condition: Condition
    over: int | None


class RuleSet:
    """The rules of one file, in order.

    Args:
        file: what the file holds.
        digest: SHA-256 of the file's bytes, which names the set in records and metrics.
        source: what errors call the file.

    Raises:
        BadSettings: a rule's condition cannot be used; the message names the rule and the reason.
    """

    def __init__(self, file: RuleFile, digest: str, source: str) -> None:
        self.rules = file.rules
        self.lists = file.lists
        self.sha256 = digest
        self._language = Language(file.lists)
        checked = _check(file, self._language, source)
        self._by_type = {kind: [c for c in checked if kind in c.rule.event_types] for kind in SCORED_EVENT_TYPES}
        self._names = {kind: sorted({n for c in of for n in c.condition.names}) for kind, of in self._by_type.items()}
        self._every_name = sorted({name for names in self._names.values() for name in names})

    @classmethod
    def load(cls, content: bytes, source: str) -> RuleSet:
        """Checks a file's content.

        Raises:
            BadSettings: it cannot be used.
        """
        return cls(parse(content, source), sha256(content).hexdigest(), source)

    @classmethod
    def read(cls, path: Path) -> RuleSet:
        """Reads and checks a file.

        Raises:
            BadSettings: there is no such file, or it cannot be used.
        """
        try:
            content = path.read_bytes()
        except OSError as error:
            raise BadSettings(f"cannot read the rules file {path}: {error.strerror}") from None
        return cls.load(content, str(path))

    @classmethod
    def empty(cls) -> RuleSet:
        """A set without rules."""
        return cls(RuleFile(lists={}, rules=()), sha256(b"").hexdigest(), "")

    def judge(self, batch: EventBatch, features: Mapping[str, NDArray[Any]]) -> RuleOutcome:
        """What the rules say of n events; a rule that fails is left out, and named in the verdict.

        Args:
            batch: the events.
            features: MODEL_FEATURES by name, each [n]; NaN is unknown.
        """
        columns = {name: self._column(name, batch, features) for name in self._every_name}
        days = (batch["event_timestamp"] // _DAY_US).tolist()
        kinds = batch["event_type"].tolist()
        verdicts = []
        for row, event_type in enumerate(kinds):
            rules = self._by_type.get(event_type)
            if rules:
                values = self._language.values({name: columns[name][row] for name in self._names[event_type]})
                verdicts.append(_verdict(rules, values, days[row]))
            else:
                verdicts.append(NOTHING)
        return RuleOutcome(self.sha256, tuple(verdicts))

    def _column(self, name: str, batch: EventBatch, features: Mapping[str, NDArray[Any]]) -> list[Any]:
        """The values of n events, as the language has them."""
        if name.startswith(LISTED):
            listed = self.lists[name.removeprefix(LISTED)]
            return [entity in listed.entries for entity in batch[f"{listed.kind}_id"].tolist()]
        column = features[name] if name in features else batch[name]
        if name not in features and CATALOGUE.fields[name].json_type == "integer":
            column = np.where(batch.present[name], column, np.nan)
        return list(column.tolist())


def _check(file: RuleFile, language: Language, source: str) -> list[_Checked]:
    checked, problems = [], []
    for rule in file.rules:
        try:
            condition = language.compile(rule.when, rule.event_types)
        except BadExpression as error:
            problems.append(f"rule {rule.name}: when: {error}")
            continue
        checked.append(_Checked(rule, condition, rule.expires.toordinal() - _EPOCH if rule.expires else None))
    if problems:
        raise BadSettings(f"{source}: {'; '.join(problems)}")
    return checked


def _verdict(rules: Sequence[_Checked], values: cel.Activation, day: int) -> RuleVerdict:
    decided: Rule | None = None
    live, dry_run, failed = [], [], []
    for checked in rules:
        if checked.over is not None and day >= checked.over:
            continue
        found = checked.condition.evaluate(values)
        if found is False:
            continue
        rule = checked.rule
        if found is not True:
            failed.append(rule.name)
        elif rule.dry_run:
            dry_run.append(rule.name)
        else:
            live.append(rule.name)
            decided = decided or rule
    if not (live or dry_run or failed):
        return NOTHING
    return RuleVerdict(decided, tuple(live), tuple(dry_run), tuple(failed))
