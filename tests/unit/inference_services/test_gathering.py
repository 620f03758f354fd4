"""Single events that are decided together, and how a request for one is read."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from feature_repo.event_batch import EventBatch
from feature_repo.event_schemas import CATALOGUE
from inference_services.errors import InvalidRequest
from inference_services.request_context import RequestContext, serving
from inference_services.transformer.decode import decode_event, decode_events
from inference_services.transformer.gathering import Gathering
from inference_services.v2 import Array, Tensor, Tensors
from pipelines.v2_events import request_body
from tests.contract.fusion_bundle import PAYMENT


class Decisions:
    """Answers with the events' own amounts, and keeps what was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[list[str], list[str]]] = []

    async def decide(self, batch: EventBatch, request_ids: Sequence[str]) -> Mapping[str, Array]:
        self.asked.append((batch["event_id"].tolist(), list(request_ids)))
        await asyncio.sleep(0)
        return {"amount": batch["amount"]}


async def ask(gathering: Gathering, number: int) -> Mapping[str, Array]:
    with serving(RequestContext.begin("rest", f"request-{number}")):
        return await gathering.outputs({**PAYMENT, "event_id": f"e{number}", "amount": 1000 + number})


async def test_events_of_one_turn_are_decided_together_and_each_gets_its_own_answer() -> None:
    decisions = Decisions()
    gathering = Gathering(decisions.decide, 8)
    answers = await asyncio.gather(*(ask(gathering, number) for number in range(20)))
    assert [a["amount"].tolist() for a in answers] == [[1000 + number] for number in range(20)]
    assert [len(events) for events, _ in decisions.asked] == [8, 8, 4]
    assert decisions.asked[2] == ([f"e{n}" for n in range(16, 20)], [f"request-{n}" for n in range(16, 20)])


async def test_a_lone_event_waits_for_nobody() -> None:
    decisions = Decisions()
    gathering = Gathering(decisions.decide, 8)
    for number in range(2):
        await ask(gathering, number)
    assert [events for events, _ in decisions.asked] == [["e0"], ["e1"]]


async def test_a_caller_who_has_gone_takes_nobody_along() -> None:
    gathering = Gathering(Decisions().decide, 8)
    gone, stays = (asyncio.create_task(ask(gathering, number)) for number in range(2))
    await asyncio.sleep(0)
    gone.cancel()
    assert (await stays)["amount"].tolist() == [1001]


async def test_a_failure_reaches_everybody_who_waits() -> None:
    async def fail(*_: Any) -> Mapping[str, Array]:
        raise RuntimeError("a defect")

    gathering = Gathering(fail, 8)
    answers = await asyncio.gather(*(ask(gathering, number) for number in range(3)), return_exceptions=True)
    assert [str(answer) for answer in answers] == ["a defect"] * 3


def tensors_of(request: dict[str, Any]) -> Tensors:
    return Tensors(Tensor(t["name"], t["datatype"], t["shape"], t["data"], None, {}) for t in request["inputs"])


def test_an_event_reads_as_in_a_batch() -> None:
    read = decode_event(tensors_of(request_body(EventBatch.from_rows([PAYMENT]), "a")))
    assert read == PAYMENT
    assert list(EventBatch.from_checked_rows([read]).rows()) == [PAYMENT]


ODD: tuple[Any, ...] = (None, "", "x", "\ud800", 0, -1, 2**63, 2**70, 1.5, float("nan"), True, [1], [[1]], {}, "tehran")


@pytest.mark.parametrize("seed", range(300))
def test_what_is_read_as_an_event_is_what_a_batch_would_hold(seed: int) -> None:
    rng = random.Random(seed)  # noqa: S311 - no secret
    request = request_body(EventBatch.from_rows([PAYMENT]), "a")
    for _ in range(rng.randint(1, 2)):
        tensor = rng.choice(request["inputs"])
        key = rng.choice(["data", "data", "data", "shape", "datatype", "name"])
        tensor[key] = {
            "data": [rng.choice(ODD)] * rng.choice([1, 1, 1, 0, 2]),
            "shape": rng.choice([[], [1], [2], [1, 1]]),
            "datatype": rng.choice(["BYTES", "INT64", "FP64", "BOOL"]),
            "name": rng.choice([*CATALOGUE.fields, "amount_present", "unknown"]),
        }[key]
    try:
        tensors = tensors_of(request)
    except InvalidRequest:
        return  # a name twice
    read = decode_event(tensors)
    if read is not None:
        whole = decode_events(tensors)
        mine = EventBatch.from_checked_rows([read])
        for name in CATALOGUE.fields:
            np.testing.assert_array_equal(mine[name], whole[name])
            np.testing.assert_array_equal(mine.present[name], whole.present[name])
            assert mine[name].dtype == whole[name].dtype
