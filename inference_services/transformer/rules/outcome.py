"""What the rules said of events, and what becomes of the models' decisions by it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from inference_services.transformer.decision_record import RulesRecord
from inference_services.transformer.reasons import RuleReason
from inference_services.transformer.rules.rule_file import Rule

R = TypeVar("R")
Decisions = NDArray[np.object_]


@dataclass(frozen=True, slots=True)
class RuleVerdict:
    """What the rules said of one event; names are in the file's order.

    Attributes:
        decided_by: the first live rule that matched, None when none did: its action is the decision.
        matched: every live rule that matched.
        dry_run: rules that matched and are only tried.
        failed: rules whose condition could not be evaluated, and that were left out.
    """

    decided_by: Rule | None
    matched: tuple[str, ...]
    dry_run: tuple[str, ...]
    failed: tuple[str, ...]


NOTHING = RuleVerdict(None, (), (), ())


@dataclass(frozen=True, slots=True)
class RuleOutcome:
    """What a set of rules said of n events.

    Attributes:
        sha256: of the rules file.
        verdicts: of each event.
    """

    sha256: str
    verdicts: Sequence[RuleVerdict]

    def decide(self, decisions: Decisions) -> Decisions:
        """The decisions: a rule's action where one decided, the given ones elsewhere; [n]."""
        decided = decisions.copy()
        for row, verdict in enumerate(self.verdicts):
            if verdict.decided_by is not None:
                decided[row] = verdict.decided_by.action
        return decided

    def explainable(self, decisions: Decisions, scored: NDArray[np.bool_]) -> Decisions:
        """The models' decisions that their reasons are wanted for, "allow" elsewhere; [n].

        An event that is allowed needs no reason. One that a rule decided has the rule's, and the models' beside it only
        where they flagged it as well.

        Args:
            decisions: the models' own, [n].
            scored: whether a model could score the event, [n].
        """
        wanted = decisions.copy()
        for row, verdict in enumerate(self.verdicts):
            rule = verdict.decided_by
            if rule is not None and (rule.action == "allow" or not scored[row]):
                wanted[row] = "allow"
        return wanted

    def with_reasons(self, reasons: Sequence[Sequence[R]]) -> list[list[R | RuleReason]]:
        """The models' reasons of each event, behind those of the rule that decided to flag it."""
        found: list[list[R | RuleReason]] = []
        for verdict, of_models in zip(self.verdicts, reasons, strict=True):
            rule = verdict.decided_by
            own = [RuleReason(rule.description, rule.name)] if rule is not None and rule.action != "allow" else []
            found.append([*own, *of_models])
        return found

    def records(self) -> list[RulesRecord]:
        """For the decision record of each event."""
        return [
            RulesRecord(
                self.sha256,
                verdict.decided_by.name if verdict.decided_by else None,
                verdict.decided_by.action if verdict.decided_by else None,
                verdict.matched,
                verdict.dry_run,
                verdict.failed,
            )
            for verdict in self.verdicts
        ]
