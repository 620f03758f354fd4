"""Watches a canary at one share until the judge knows, or for as long as it may take."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from components.judge_canary.logic import Finding, JudgeSettings, Observed, Verdict, judge


def watch(
    look: Callable[[], Observed],
    share: float,
    settings: JudgeSettings,
    *,
    patience_s: float,
    every_s: float,
    seen: Callable[[Verdict], None] = lambda _: None,
) -> Verdict:
    """The judge's verdict: to advance or to roll back, within bounded time.

    Args:
        look: every decision so far at this share.
        share: of the traffic that the canary has, between 0 and 1.
        settings: the judge's.
        patience_s: a canary that has not shown itself harmless by then goes back.
        every_s: pause between two looks.
        seen: told each verdict.
    """
    deadline = time.monotonic() + patience_s
    while True:
        verdict = judge(look(), share, settings)
        seen(verdict)
        if verdict.action != "wait":
            return verdict
        if time.monotonic() >= deadline:
            return _out_of_time(verdict, patience_s)
        time.sleep(min(every_s, max(deadline - time.monotonic(), 0)))


def _out_of_time(verdict: Verdict, patience_s: float) -> Verdict:
    late = Finding("time", "bad", f"not shown to be harmless within {patience_s:g} s; {verdict.why()}")
    return replace(verdict, action="roll back", findings=(*verdict.findings, late))
