"""Watches a canary at one share until the judge knows, or for as long as it may take."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from components.judge_canary.logic import Finding, JudgeSettings, Observed, Verdict, judge
from components.observe_canary.decisions import Arms, observed, outcomes, read_decisions
from inference_services.policy_settings import ThresholdSettings


class ObserveSettings(BaseModel):
    """How long a canary is watched, and what it is held to."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    patience_s: float = Field(
        3600, ge=0, description="Time at one share; a canary not shown to be harmless by then goes back, seconds."
    )
    every_s: float = Field(5, gt=0, description="Pause between two looks at the decision log, seconds.")
    budget_ms: float | None = Field(None, gt=0, description="A decision over it is slow, ms; null: the policy's.")
    labels: Path | None = Field(None, description="Label log, where a share lasts long enough for labels to come.")
    judge: JudgeSettings = Field(default_factory=JudgeSettings, description="The judge's bounds.")


@dataclass(frozen=True, slots=True)
class Watched:
    """A canary at one share.

    Attributes:
        decisions: the decision log.
        arms: the versions that are compared.
        since: when the canary got its share.
        share: of the traffic, between 0 and 1.
    """

    decisions: Path
    arms: Arms
    since: datetime
    share: float

    def look(self, settings: ObserveSettings, policy: ThresholdSettings) -> Observed:
        """The decisions at this share so far."""
        found = read_decisions(self.decisions, self.arms, self.since)
        budget_ms = settings.budget_ms or policy.latency_budget_ms
        if settings.labels is None:
            return observed(found, budget_ms)
        return observed(found, budget_ms, outcomes(found, settings.labels, datetime.now(UTC), policy), policy)


def observe(
    watched: Watched,
    settings: ObserveSettings,
    policy: ThresholdSettings,
    seen: Callable[[Verdict], None] = lambda _: None,
) -> Verdict:
    """The judge's verdict: to advance or to roll back, within bounded time.

    Args:
        watched: the canary.
        settings: how long, and the bounds.
        policy: what wrong decisions cost, and the latency budget.
        seen: told each verdict.
    """
    deadline = time.monotonic() + settings.patience_s
    while True:
        verdict = judge(watched.look(settings, policy), watched.share, settings.judge)
        if verdict.action == "wait" and time.monotonic() >= deadline:
            verdict = _out_of_time(verdict, settings.patience_s)
        seen(verdict)
        if verdict.action != "wait":
            return verdict
        time.sleep(min(settings.every_s, max(deadline - time.monotonic(), 0)))


def _out_of_time(verdict: Verdict, patience_s: float) -> Verdict:
    late = Finding("time", "bad", f"not shown to be harmless within {patience_s:g} s; {verdict.why()}")
    return replace(verdict, action="roll back", findings=(*verdict.findings, late))
