"""The judge of a canary: how often it errs when it is asked all the time, and what it says of each kind of harm."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import ValidationError

from components.judge_canary.logic import CHALLENGER, CHAMPION, NOBODY, JudgeSettings, Observed, Verdict, judge
from components.judge_canary.sequential import Mean, difference, share_mismatch, sprt

SETTINGS = JudgeSettings()
RUNS = 400


def observed(
    n: int = 6_000,
    share: float = 0.25,
    *,
    slow: float = 0.001,
    alarmed: float = 0.02,
    failing: float = 0.0,
    cost: tuple[float, float] | None = None,
    seed: int = 0,
) -> Observed:
    """Decisions of a champion, and of a canary as described; `failing` is the share of its requests that it loses."""
    rng = np.random.default_rng(seed)
    canary = rng.random(n) < share
    lost = canary & (rng.random(n) < failing)
    costs = np.full(n, np.nan)
    if cost is not None:
        costs = rng.exponential(np.where(canary, cost[1], cost[0]))
    return Observed(
        np.arange(n),
        np.where(lost, NOBODY, np.where(canary, CHALLENGER, CHAMPION)),
        rng.random(n) < np.where(canary, slow, 0.001),
        rng.random(n) < np.where(canary, alarmed, 0.02),
        costs,
    )


def first(found: Observed, n: int) -> Observed:
    return Observed(*(getattr(found, name)[:n] for name in ("unit", "arm", "slow", "alarmed", "cost")))


def asked_always(found: Observed, share: float, settings: JudgeSettings = SETTINGS) -> Verdict:
    """The first verdict that is not to wait."""
    for n in range(100, len(found) + 1, 100):
        verdict = judge(first(found, n), share, settings)
        if verdict.action != "wait":
            return verdict
    return verdict


def test_a_harmless_canary_goes_on_and_nearly_never_back() -> None:
    actions = [asked_always(observed(seed=seed), 0.25).action for seed in range(60)]
    # Six measures with an error of 1 % each at most: more than six of 60 would be an accident.
    assert actions.count("advance") >= 54
    assert "wait" not in actions


HARM: dict[str, tuple[dict[str, Any], str]] = {
    "slow": ({"slow": 0.08}, "slow decisions"),
    "alarms about everybody": ({"alarmed": 0.2}, "reviewed or blocked"),
    "every request fails": ({"failing": 1.0}, "share"),
    "half of them fail": ({"failing": 0.5}, "share"),
    "a few fail": ({"failing": 0.15}, "missing answers"),
    "dearer decisions": ({"cost": (1_000.0, 1_500.0)}, "cost"),
}


@pytest.mark.parametrize("case", HARM)
def test_harm_sends_a_canary_back_and_is_named(case: str) -> None:
    kind, measure = HARM[case]
    verdict = judge(observed(**kind), 0.25, SETTINGS)
    assert verdict.action == "roll back"
    assert measure in [f.measure for f in verdict.findings if f.says == "bad"]
    assert measure in verdict.why()


def test_a_canary_that_fails_always_is_sent_back_within_a_hundred_requests() -> None:
    assert judge(observed(100, failing=1.0), 0.25, SETTINGS).action == "roll back"


def test_cheaper_or_equal_decisions_do_not_send_it_back() -> None:
    for canary in (1_000.0, 500.0):
        assert judge(observed(cost=(1_000.0, canary)), 0.25, SETTINGS).action == "advance"


def test_too_little_traffic_waits() -> None:
    verdict = judge(observed(200), 0.25, SETTINGS)
    assert verdict.action == "wait"
    assert "decisions: " in verdict.why()
    assert judge(observed(0), 0.25, SETTINGS).action == "wait"


def test_the_interval_of_a_difference_holds_at_every_look() -> None:
    """Of skewed values, whose mean a fixed-sample interval at the same error misses several times as often."""
    rng, missed, missed_once = np.random.default_rng(1), 0, 0
    looks = np.unique(np.geomspace(100, 3_000, 30).astype(int))
    for _ in range(RUNS // 2):
        values, canary = rng.exponential(size=3_000), rng.random(3_000) < 0.3
        unit = np.arange(3_000)
        outside = fixed = False
        for n in looks:
            a, b = (Mean.of(values[:n][arm[:n]], unit[:n][arm[:n]]) for arm in (canary, ~canary))
            found = difference(a, b, 0.1)
            outside |= not found.low <= 0 <= found.high
            fixed |= abs(a.value - b.value) > 1.645 * np.sqrt(a.variance + b.variance)
        missed, missed_once = missed + outside, missed_once + fixed
    assert missed / (RUNS // 2) <= 0.1
    assert missed_once / (RUNS // 2) > 0.25


def test_units_that_go_together_widen_the_interval_and_single_ones_do_not() -> None:
    rng = np.random.default_rng(2)
    per_unit = rng.normal(size=200)
    values, unit = np.repeat(per_unit, 16), np.repeat(np.arange(200), 16)
    alone, together = Mean.of(values, np.arange(len(values))), Mean.of(values, unit)
    assert together.variance == pytest.approx(per_unit.var(ddof=1) / 200)
    assert together.variance == pytest.approx(16 * alone.variance, rel=0.01)


def shares(draw: float, n: int, seed: int) -> NDArray[np.bool_]:
    return np.asarray(np.random.default_rng(seed).random(n) < draw)


def test_a_right_share_is_rarely_suspected_at_any_look_and_a_wrong_one_found() -> None:
    false = sum(share_mismatch(shares(0.1, 3_000, seed), 0.1, 0.05) for seed in range(RUNS))
    assert false / RUNS <= 0.05
    assert all(share_mismatch(shares(0.14, 3_000, seed), 0.1, 0.05) for seed in range(20))


def test_the_ratio_test_errs_as_seldom_as_it_is_told() -> None:
    bad = [sprt(shares(0.01, 5_000, seed), 0.01, 0.05, 0.05) for seed in range(RUNS)]
    good = [sprt(shares(0.05, 5_000, seed), 0.01, 0.05, 0.05) for seed in range(RUNS)]
    assert bad.count("bad") / RUNS <= 0.06
    assert good.count("good") / RUNS <= 0.06
    assert "open" not in {*bad, *good}


def test_what_the_ratio_test_said_it_says_again() -> None:
    failed = np.concatenate([np.ones(5, bool), np.zeros(5_000, bool)])
    assert sprt(failed[:10], 0.01, 0.05, 0.05) == sprt(failed, 0.01, 0.05, 0.05) == "bad"


def test_bounds_must_lie_apart() -> None:
    with pytest.raises(ValidationError, match=r"broken_slow 0\.01 must be above tolerated_slow 0\.02"):
        JudgeSettings(tolerated_slow=0.02, broken_slow=0.01)
