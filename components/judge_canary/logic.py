"""Whether a canary may go on, from the decisions that were made at one share of the traffic.

Labels come days late, so what is known at once is held to bounds: answers that are missing, slow or other than
expected. What decisions cost is compared where the outcomes are known, and can only send a canary back.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter

from components.errors import RolledBack
from components.judge_canary.sequential import Interval, Mean, Test, difference, share_mismatch, sprt
from components.judge_canary.settings import JudgeSettings

__all__ = ["Finding", "JudgeSettings", "Observed", "Verdict", "check", "judge"]

Action = Literal["advance", "wait", "roll back"]
CHALLENGER, CHAMPION, NOBODY = 1, 0, -1
Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Observed:
    """n decisions in the order in which they were made.

    Attributes:
        unit: which of them were decided together, [n].
        arm: whose version answered: CHALLENGER, CHAMPION or NOBODY, [n].
        slow: whether it took longer than the budget, [n].
        alarmed: whether it was reviewed or blocked, [n].
        cost: what it cost, toman; NaN where the outcome is not known yet, [n].
    """

    unit: NDArray[np.int64]
    arm: NDArray[np.int64]
    slow: Flags
    alarmed: Flags
    cost: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.unit)

    def of(self, arm: int) -> Flags:
        """Which decisions are an arm's, [n]."""
        return np.asarray(self.arm == arm)


@dataclass(frozen=True, slots=True)
class Finding:
    """What one measure says.

    Attributes:
        measure: its name.
        says: good, bad, or open while it cannot be told.
        found: the figures, in words.
    """

    measure: str
    says: Test
    found: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What to do, and why.

    Attributes:
        action: what follows from the findings.
        findings: of every measure.
    """

    action: Action
    findings: tuple[Finding, ...]

    @classmethod
    def from_json(cls, content: str) -> Verdict:
        """Reads what `to_json` wrote."""
        return TypeAdapter(cls).validate_json(content)

    def to_json(self) -> str:
        """As JSON: {"action", "findings": [{"measure", "says", "found"}]}."""
        return json.dumps(asdict(self), indent=2) + "\n"

    def why(self) -> str:
        """The findings that decided, in words."""
        decisive = {"roll back": "bad", "wait": "open", "advance": "good"}[self.action]
        return "; ".join(f"{f.measure}: {f.found}" for f in self.findings if f.says == decisive)


def check(verdict: Verdict, what: str) -> None:
    """Lets a canary advance.

    Raises:
        RolledBack: it is to go back; the message says why.
    """
    if verdict.action != "advance":
        raise RolledBack(f"{what}: {verdict.why()}")


def judge(observed: Observed, share: float, settings: JudgeSettings) -> Verdict:
    """What the decisions so far say; it may be asked as often as one likes.

    Args:
        observed: every decision since the canary has had its share.
        share: of the traffic that the canary has, between 0 and 1.
        settings: the bounds.
    """
    findings = tuple(_findings(observed, share, settings))
    says = {finding.says for finding in findings}
    action: Action = "roll back" if "bad" in says else "wait" if "open" in says else "advance"
    return Verdict(action, findings)


def _findings(observed: Observed, share: float, settings: JudgeSettings) -> Iterator[Finding]:
    mine = observed.of(CHALLENGER)
    n = int(mine.sum())
    enough = n >= settings.least_decisions
    yield Finding(
        "decisions", "good" if enough else "open", f"{n:,} of the canary, {settings.least_decisions:,} needed"
    )
    yield _split(observed, share, settings)
    yield _rate("missing answers", observed.of(NOBODY), settings.tolerated_missing, settings.broken_missing, settings)
    yield _rate("slow decisions", observed.slow[mine], settings.tolerated_slow, settings.broken_slow, settings)
    yield _alarms(observed, settings, enough)
    yield _cost(observed, settings)


def _split(observed: Observed, share: float, settings: JudgeSettings) -> Finding:
    """A canary whose answers fail is answered for by nobody: its share falls."""
    answered = observed.arm != NOBODY
    _, first = np.unique(observed.unit[answered], return_index=True)
    hit = observed.arm[answered][np.sort(first)] == CHALLENGER
    mismatch = share_mismatch(hit, share, settings.error)
    found = f"{hit.mean() if len(hit) else 0:.1%} of what was answered, {share:.0%} was sent"
    return Finding("share", "bad" if mismatch else "good", found)


def _rate(measure: str, failed: Flags, tolerated: float, broken: float, settings: JudgeSettings) -> Finding:
    rate = float(failed.mean()) if len(failed) else 0.0
    says = sprt(failed, tolerated, broken, settings.error)
    return Finding(measure, says, f"{rate:.2%} of {len(failed):,}; {tolerated:.1%} is fine, {broken:.1%} is not")


def _alarms(observed: Observed, settings: JudgeSettings, enough: bool) -> Finding:
    everything = np.ones(len(observed), np.bool_)
    shift, most = _difference(observed, observed.alarmed, everything, settings), settings.most_alarm_shift
    within = -most <= shift.low and shift.high <= most
    beyond = shift.low > most or shift.high < -most
    says: Test = "open" if not enough else "bad" if beyond else "good" if within else "open"
    found = f"{_shown(shift, 100)} percentage points from the champion's; {100 * most:g} may be"
    return Finding("reviewed or blocked", says, found)


def _cost(observed: Observed, settings: JudgeSettings) -> Finding:
    known = np.isfinite(observed.cost)
    n = int((known & observed.of(CHALLENGER)).sum())
    if n < settings.least_known:
        return Finding("cost", "good", f"the outcomes of {n:,} decisions of the canary are known: too few to compare")
    more = _difference(observed, observed.cost, known, settings)
    return Finding(
        "cost", "bad" if more.low > 0 else "good", f"{_shown(more)} toman a decision more than the champion's"
    )


def _difference(observed: Observed, values: NDArray[Any], chosen: Flags, settings: JudgeSettings) -> Interval:
    """Of the canary's mean from the champion's, over the decisions that are chosen."""
    canary, champion = (
        Mean.of(values[rows], observed.unit[rows])
        for rows in (observed.of(CHALLENGER) & chosen, observed.of(CHAMPION) & chosen)
    )
    return difference(canary, champion, settings.error)


def _shown(found: Interval, scale: float = 1.0) -> str:
    return f"{scale * found.value:+,.1f} ({scale * found.low:+,.1f} to {scale * found.high:+,.1f})"
