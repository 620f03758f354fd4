"""A whole rollout from one process: raise, observe, judge, and promote or roll back."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from components import rollout
from components.errors import NotServing, RolledBack
from components.judge_canary.logic import Verdict, check
from components.model_registry import ModelVersion
from components.observe_canary.logic import ObserveSettings, Watched, observe
from components.raise_canary.logic import raise_leg
from components.rollout import Leg
from inference_services.policy_settings import ThresholdSettings


@dataclass(frozen=True)
class Course:
    """How a rollout goes.

    Attributes:
        shares: percents of the traffic, one after the other.
        decisions: the decision log.
        watch: how long a canary is watched at each share, and what it is held to.
        policy: what wrong decisions cost.
        ready_s: how long a revision may take to be ready.
    """

    shares: Sequence[int]
    decisions: Path
    watch: ObserveSettings
    policy: ThresholdSettings
    ready_s: float = rollout.READY_S


@dataclass(frozen=True, slots=True)
class Journal:
    """What was done when, for the notebook and for people; nothing steers by it.

    Attributes:
        path: a file of JSON lines.
    """

    path: Path

    def note(self, action: str, leg: Leg | None = None, percent: int | None = None, why: str = "") -> datetime:
        """Adds a line, and returns its time."""
        now = datetime.now(UTC)
        line: dict[str, Any] = {"at": now.isoformat(), "action": action, "percent": percent, "why": why}
        if leg is not None:
            versions = {"champion": leg.champion, "challenger": leg.challenger}
            line |= {"model": leg.model, **{name: f"{v.version}-{v.sha12}" for name, v in versions.items()}}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a") as file:
            file.write(json.dumps(line) + "\n")
        return now


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
            _raise(api, plan, leg, course, journal=journal, say=say)
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
    api: Any,
    plan: Sequence[Leg],
    leg: Leg,
    course: Course,
    *,
    journal: Journal,
    say: Callable[[Leg, int, Verdict | None], None],
) -> None:
    for position, percent in enumerate(course.shares):
        since = raise_leg(api, plan, leg.model, percent, course.ready_s)
        journal.note("ramp" if position else "start", leg, percent)
        say(leg, percent, None)
        watched = Watched(course.decisions, leg.arms, since, percent / 100)
        seen = partial(say, leg, percent)
        check(observe(watched, course.watch, course.policy, seen), f"{leg.model} at {percent} %")
