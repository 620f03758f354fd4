"""The fault check sees what is wrong."""

from __future__ import annotations

import math

import orjson
import pytest

from tests.checks.faults.cases import _recovery, _unnamed
from tests.checks.faults.load import Answered, wrong_answers
from tests.checks.faults.reference import Expected
from tests.load import Reply

NUMBERS = {"fraud_probability": 0.25, "lightgbm_probability": 0.3, "gnn_probability": -1.0}
RIGHT = {(0, "gnn"): Expected(NUMBERS, "allow", ('{"text":"why"}',))}


def answered(degraded: str = "gnn", due: float = 0.0, **changes: object) -> Answered:
    outputs = {**NUMBERS, "decision": "allow", "reasons": "[]", "degraded": degraded, **changes}
    body = orjson.dumps({"outputs": [{"name": name, "data": [value]} for name, value in outputs.items()]})
    return Answered(0, "fault-00000000", Reply(200, 0.01, due, {}, body))


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({}, ""),
        ({"reasons": '[{"text":"why"}]'}, ""),
        ({"reasons": '[{"text":"because"}]'}, "reasons"),
        ({"fraud_probability": 0.250001}, "fraud_probability"),
        ({"gnn_probability": 0.5}, "gnn_probability"),
        ({"decision": "block"}, "block instead of allow"),
        ({"degraded": ""}, "cannot be"),
    ],
)
def test_an_answer_that_is_not_the_event_s_is_wrong(changes: dict[str, object], problem: str):
    found = wrong_answers([answered(**changes)], RIGHT)  # type: ignore[arg-type]
    assert len(found) == bool(problem)
    assert all(problem in text for text in found)


def test_an_answer_that_does_not_name_a_part_that_is_down_is_counted():
    sent = [answered("gnn", due) for due in (0.5, 1.5, 2.5)]
    assert _unnamed(sent, "lightgbm", 1.0, 2.0) == 1
    assert _unnamed(sent, "gnn", 1.0, 2.0) == 0


def test_a_part_is_back_with_the_first_of_ten_answers_in_a_row_in_which_it_takes_part():
    late = [answered("gnn" if n < 5 or n == 8 else "", n / 10) for n in range(30)]
    assert _recovery(late, "gnn", {"gnn": 0.0}) == pytest.approx(0.9)
    assert _recovery(late[:12], "gnn", {"gnn": 0.0}) == math.inf
