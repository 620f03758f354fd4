"""The circuit breaker: what it lets through, and what brings it back."""

from __future__ import annotations

import asyncio
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import REGISTRY

from inference_services.errors import PartDown, PredictorGone
from inference_services.transformer.breaker import Breaker, State
from inference_services.transformer.parts import Part


def opened(failures: int = 3, now: float = 0.0) -> Breaker:
    breaker = Breaker(failures, 1.0)
    for _ in range(failures):
        ticket = breaker.admit(now)
        assert ticket is not None
        breaker.fail(ticket, now)
    return breaker


def test_failures_in_a_row_open_it():
    assert opened().state is State.OPEN


def test_a_success_starts_the_row_again():
    breaker = Breaker(3, 1.0)
    for outcome in (False, False, True, False, False):
        ticket = breaker.admit(0.0)
        assert ticket is not None
        if outcome:
            breaker.succeed(ticket)
        else:
            breaker.fail(ticket, 0.0)
    assert breaker.state is State.CLOSED


def test_open_admits_nobody_until_the_wait_is_over_and_then_one_alone():
    breaker = opened()
    assert breaker.admit(0.99) is None
    assert breaker.admit(1.0) is not None
    assert [breaker.admit(now) for now in (1.0, 5.0, 60.0)] == [None] * 3


def test_a_trial_that_succeeds_closes_it():
    breaker = opened()
    trial = breaker.admit(1.0)
    assert trial is not None
    breaker.succeed(trial)
    assert breaker.state is State.CLOSED
    assert all(breaker.admit(1.0) is not None for _ in range(3))


def test_a_trial_that_fails_starts_the_wait_again():
    breaker = opened()
    trial = breaker.admit(1.0)
    assert trial is not None
    breaker.fail(trial, 1.04)
    assert breaker.admit(2.03) is None
    assert breaker.admit(2.04) is not None


def test_a_trial_that_is_given_up_leaves_the_next_call_to_try():
    breaker = opened()
    trial = breaker.admit(1.0)
    assert trial is not None
    breaker.withdraw(trial, 1.01)
    assert breaker.admit(1.01) is not None


def test_calls_from_before_it_opened_say_nothing_about_the_trial():
    breaker = Breaker(1, 1.0)
    late, later, failing = (breaker.admit(0.0) for _ in range(3))
    assert late is not None
    assert later is not None
    assert failing is not None
    breaker.fail(failing, 0.0)
    assert breaker.admit(1.0) is not None
    breaker.fail(late, 1.0)
    breaker.succeed(later)
    assert breaker.state is State.HALF_OPEN


@given(st.lists(st.tuples(st.floats(0, 0.5), st.sampled_from(["succeed", "fail", "withdraw", "hang"])), max_size=60))
def test_while_it_is_not_closed_at_most_one_call_is_under_way(steps: list[tuple[float, str]]):
    breaker, now = opened(), 0.0
    trials: set[int] = set()
    for wait, outcome in steps:
        now += wait
        ticket = breaker.admit(now)
        if ticket is None:
            continue
        if breaker.state is State.HALF_OPEN:
            trials.add(ticket)
            assert len(trials) == 1
        if outcome == "succeed":
            breaker.succeed(ticket)
        elif outcome == "fail":
            breaker.fail(ticket, now)
        elif outcome == "withdraw":
            breaker.withdraw(ticket, now)
        if outcome != "hang":
            trials.discard(ticket)


async def fail(part: Part) -> None:
    with pytest.raises(PredictorGone), part.attempt():
        raise PredictorGone("it said nothing")


def metric(name: str, part: str) -> float:
    return REGISTRY.get_sample_value(name, {"part": part}) or 0.0


async def test_a_part_is_told_of_once_when_it_goes_and_once_when_it_returns(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(logging.getLogger("fraud"), "propagate", True)
    part = Part("the test's part", failures=2, retry_s=0.01)
    for _ in range(2):
        await fail(part)
    with pytest.raises(PartDown), part.attempt():
        raise AssertionError("an open breaker let a call through")
    assert metric("fraud_breaker_state", "the test's part") == State.OPEN.value
    await asyncio.sleep(0.02)
    await fail(part)
    await asyncio.sleep(0.02)
    with part.attempt():
        pass
    assert [record.getMessage() for record in caplog.records] == [
        "the test's part is left out of decisions: it said nothing",
        "the test's part takes part in decisions again",
    ]
    assert metric("fraud_breaker_opened_total", "the test's part") == 1
    assert metric("fraud_part_failures_total", "the test's part") == 3
    assert metric("fraud_breaker_state", "the test's part") == State.CLOSED.value


async def test_a_caller_that_goes_away_is_not_the_part_s_failure():
    part = Part("another of the test's", failures=1, retry_s=60.0)

    async def call() -> None:
        with part.attempt():
            await asyncio.sleep(60)

    task = asyncio.create_task(call())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    with part.attempt():
        pass


async def test_a_part_that_is_reset_is_asked_at_once():
    part = Part("one that starts later", failures=1, retry_s=60.0)
    with pytest.raises(PredictorGone), part.attempt():
        raise PredictorGone("it has not started")
    with pytest.raises(PartDown), part.attempt():
        pass
    part.reset()
    with part.attempt():
        pass
    assert REGISTRY.get_sample_value("fraud_breaker_state", {"part": "one that starts later"}) == State.CLOSED.value
