"""What the overload check says of what it has measured."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest

from pipelines.report import Row
from tests.checks.faults.overload import Overload
from tests.checks.faults.served_times import ServedTimes
from tests.load_generator import Exchange, Load

LATE_MS = 60.0
SERVED = ServedTimes({0.001: 200.0, 0.02: 250.0, 0.04: 300.0, math.inf: 300.0}, 100.0)


def exchanges(took_s: float, settling_s: float = 0.0, lag_s: float = 0.0, refused: int = 2) -> list[Exchange]:
    """Three times a capacity of 100 a second for four seconds; slow until it has settled."""
    made = []
    for number in range(1200):
        due = number / 300
        taken = number % 3 >= refused
        took = 0.001 if not taken else 0.5 if due < settling_s else took_s
        made.append(Exchange(due, due + lag_s, due + lag_s + took, 200 if taken else 429, taken))
    return made


def rows(given: Sequence[Exchange], sick: int = 0) -> dict[str, Row]:
    measured = Overload(100.0, Load(4.0, given), sick, 4.0, SERVED).rows("x", LATE_MS)
    return {row.name.removeprefix("x: "): row for row in measured}


def missed(given: Sequence[Exchange], sick: int = 0) -> set[str]:
    return {name for name, row in rows(given, sick).items() if row.met is False}


def test_a_service_that_keeps_its_promises_misses_nothing():
    found = rows(exchanges(0.03, settling_s=0.4))
    assert missed(exchanges(0.03, settling_s=0.4)) == set()
    assert found["until it answers within 60 ms"].value == pytest.approx(0.4)
    assert found["p99 of what is taken on"].value == pytest.approx(30.0)
    assert found["sent, to that"].value == pytest.approx(3.0)


@pytest.mark.parametrize(
    ("given", "name"),
    [
        (exchanges(0.07), "p99 of what is taken on"),
        (exchanges(0.07), "until it answers within 60 ms"),
        (exchanges(0.03, settling_s=1.5), "p99 of what is taken on"),
        (exchanges(0.03, settling_s=1.5), "until it answers within 60 ms"),
        (exchanges(0.03, refused=0), "told to come again"),
        (exchanges(0.03, refused=3), "capacity still used"),
        (exchanges(0.03, lag_s=1.0), "sent, to that"),
        ([*exchanges(0.03), Exchange(1.0, 1.0, 1.1, -1, False)], "anything else"),
    ],
)
def test_what_falls_short_is_said(given: Sequence[Exchange], name: str):
    assert name in missed(given)


def test_a_question_after_its_health_that_is_not_answered_is_said():
    assert missed(exchanges(0.03), sick=1) == {"health not answered with 200"}


def test_what_was_refused_is_not_among_the_times_in_the_service():
    assert SERVED.taken_ms(0.0) == (0.0, 1.0)
    assert SERVED.taken_ms(0.5) == (1.0, 20.0)
    assert SERVED.taken_ms(0.51) == (20.0, 40.0)
    assert ServedTimes({**SERVED.below, math.inf: 310.0}, 100.0).taken_ms(0.99) == (40.0, math.inf)


def test_times_in_the_service_are_those_between_two_scrapes():
    later = ServedTimes({0.001: 200.0, 0.02: 250.0, 0.04: 400.0, math.inf: 400.0}, 200.0)
    assert (later - SERVED).taken_ms(0.0) == (0.0, 1.0)
    assert (later - SERVED).taken_ms(0.01) == (20.0, 40.0)
