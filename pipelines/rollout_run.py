"""A whole rollout from one process: raise, observe, judge, and promote or roll back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from components import canary
from components.errors import NotServing, RolledBack
from components.judge_canary.logic import JudgeSettings, Observed, Verdict
from components.observe_canary.decisions import observed, outcomes, read_decisions
from components.observe_canary.watch import watch
from inference_services.policy_settings import ThresholdSettings
from pipelines import rollout
from pipelines.registry import ModelVersion
from pipelines.rollout import Journal, Leg


@dataclass(frozen=True)
class Course:
    """How a rollout goes.

    Attributes:
        shares: percents of the traffic, one after the other.
        decisions: the decision log.
        budget_ms: within which a decision is to be made.
        patience_s: how long a canary may take at each share.
        every_s: pause between two looks at the log.
        judge: the bounds.
        labels: the label log; None where no outcome can be known yet.
        policy: what wrong decisions cost.
        ready_s: how long a revision may take to be ready.
    """

    shares: Sequence[int]
    decisions: Path
    budget_ms: float
    patience_s: float
    every_s: float
    judge: JudgeSettings
    labels: Path | None
    policy: ThresholdSettings
    ready_s: float = rollout.READY_S

    def look(self, leg: Leg, since: datetime) -> Observed:
        """The decisions since the canary has had its share."""
        found = read_decisions(self.decisions, leg.arms, since)
        if self.labels is None:
            return observed(found, self.budget_ms)
        known = outcomes(found, self.labels, datetime.now(UTC), self.policy)
        return observed(found, self.budget_ms, known, self.policy)


def run(  # noqa: PLR0917 - each is another part
    api: Any,
    plan: Sequence[Leg],
    move_aliases: Callable[[], list[ModelVersion]],
    course: Course,
    journal: Journal,
    say: Callable[[Leg, int, Verdict | None], None],
    prepare: Callable[[Leg], None],
) -> list[ModelVersion]:
    """Rolls the challenger out, leg by leg; on any failure the champion serves alone again.

    Args:
        api: a Kubernetes client.
        plan: the rollout's legs.
        move_aliases: makes the challenger the champion in the registry.
        course: how.
        journal: takes note.
        say: told of every look at a share, with None when it begins.
        prepare: called before a leg begins, for what its model needs.

    Returns:
        The new champions.

    Raises:
        RolledBack: the judge sent it back, or the challenger did not come up.
        ComponentError: the API is away; what serves is as it was left.
    """
    leg: Leg | None = None
    try:
        while (leg := rollout.next_leg(api, plan)) is not None:
            prepare(leg)
            _raise(api, leg, course, journal, say)
            journal.note("promote", leg, 100)
            champions = rollout.promote(api, plan, move_aliases, course.ready_s)
            if champions:
                return champions
    except (NotServing, RolledBack, KeyboardInterrupt) as error:
        why = str(error) or "interrupted"
        journal.note("rollback", leg, why=why)
        rollout.roll_back(api, plan, course.ready_s)
        raise RolledBack(f"rolled back, the champion serves alone: {why}") from None
    return rollout.promote(api, plan, move_aliases, course.ready_s)


def _raise(
    api: Any, leg: Leg, course: Course, journal: Journal, say: Callable[[Leg, int, Verdict | None], None]
) -> None:
    for position, percent in enumerate(course.shares):
        canary.raise_to(api, leg.canary, percent, course.ready_s)
        since = journal.note("ramp" if position else "start", leg, percent)
        say(leg, percent, None)
        verdict = watch(
            lambda since=since: course.look(leg, since),  # type: ignore[misc]
            percent / 100,
            course.judge,
            patience_s=course.patience_s,
            every_s=course.every_s,
            seen=lambda verdict, percent=percent: say(leg, percent, verdict),  # type: ignore[misc]
        )
        if verdict.action == "roll back":
            raise RolledBack(f"{leg.model} at {percent} %: {verdict.why()}")
