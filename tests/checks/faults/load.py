"""A steady stream of single events at the transformer, and what is wrong with the answers."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from tests.checks.faults.reference import Answers, differs, expected_of
from tests.contract.fusion_bundle import NAME
from tests.contract.test_transformer_process import tensors_of
from tests.load import Client, Reply, post
from tests.small_stack import SmallStack

_ID = b"fault-00000000"


def _id(number: int) -> bytes:
    return _ID[:-8] + b"%08d" % number


@dataclass(frozen=True)
class Answered:
    """One request.

    Attributes:
        event: which of the history's events.
        event_id: its id of its own.
        reply: what came back.
    """

    event: int
    event_id: str
    reply: Reply

    def degraded(self) -> str:
        return str(self.outputs()["degraded"][0])

    def outputs(self) -> dict[str, Any]:
        return {output["name"]: output["data"] for output in orjson.loads(self.reply.body)["outputs"]}


@dataclass
class Load:
    """Sends events at a steady rate until it is stopped.

    Attributes:
        stack: whose transformer is asked.
        rate: requests a second.
        first: number of the first event; each has an id of its own.
        answered: all requests that have an outcome.
        sent: how many were sent.
    """

    stack: SmallStack
    rate: float
    first: int = 0
    answered: list[Answered] = field(default_factory=list)
    sent: int = 0

    def __post_init__(self) -> None:
        self._bodies = [_body(event) for event in self.stack.history.events]
        self._client = Client(self.stack.transformer.port)
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        """Until `stop`; returns when everything that was sent has an outcome."""
        clock = asyncio.get_running_loop().time
        due, waiting = clock(), set()
        while not self._stopping.is_set():
            due += 1 / self.rate
            await asyncio.sleep(max(due - clock(), 0))
            task = asyncio.create_task(self._send(self.sent, due))
            waiting.add(task)
            task.add_done_callback(waiting.discard)
            self.sent += 1
        await asyncio.gather(*waiting)
        self._client.close()

    def stop(self) -> None:
        self._stopping.set()

    def next_id(self) -> str:
        """Of the event that is sent next."""
        return _id(self.first + self.sent).decode()

    async def _send(self, number: int, due: float) -> None:
        event, event_id = number % len(self._bodies), _id(self.first + number)
        request = post(f"/v2/models/{NAME}/infer", self._bodies[event].replace(_ID, event_id))
        self.answered.append(Answered(event, event_id.decode(), await self._client.send(request, due)))


def _body(event: dict[str, Any]) -> bytes:
    given = {name: value for name, value in event.items() if value is not None}
    return orjson.dumps({"inputs": tensors_of([given | {"event_id": _ID.decode()}])})


def wrong_answers(answered: Sequence[Answered], right: Answers) -> list[str]:
    """What is wrong with those that were answered."""
    found = []
    for one in answered:
        if one.reply.status != 200:
            continue
        expected = right.get((one.event, one.degraded()))
        problem = "degraded names what cannot be" if expected is None else differs(expected_of(one.outputs()), expected)
        if problem:
            found.append(f"{one.event_id} (degraded {one.degraded()!r}): {problem}")
    return found
