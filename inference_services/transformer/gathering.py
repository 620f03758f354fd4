"""Decides together the single events whose requests arrive at the same time.

Reading the store and making features are operations on columns, which cost about as much for one event as for twenty.
Nobody waits for company: what the event loop has read from the sockets in one turn is decided in the next. So a lone
request is decided at once, and the busier the process, the more events share a decision's cost.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from feature_repo.event_batch import EventBatch
from inference_services.admission import Waits, current_waits, shared_waits
from inference_services.request_context import request_id
from inference_services.v2 import Array

Decide = Callable[[EventBatch, Sequence[str]], Awaitable[Mapping[str, Array]]]


@dataclass(frozen=True, slots=True)
class _Waiting:
    event: Mapping[str, Any]
    request_id: str
    waits: Waits | None
    answer: asyncio.Future[Mapping[str, Array]]


class Gathering:
    """Gathers events.

    Args:
        decide: decides a batch, given the id of the request that each of its events came in.
        most: events that are decided together at most.
    """

    def __init__(self, decide: Decide, most: int) -> None:
        self._decide = decide
        self._most = most
        self._waiting: list[_Waiting] = []
        self._under_way: set[asyncio.Task[None]] = set()

    async def outputs(self, event: Mapping[str, Any]) -> Mapping[str, Array]:
        """The V2 outputs for one valid event, each [1]."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Mapping[str, Array]] = loop.create_future()
        if not self._waiting:
            loop.call_soon(self._start)
        self._waiting.append(_Waiting(event, request_id(), current_waits(), answer))
        return await answer

    def _start(self) -> None:
        waiting, self._waiting = self._waiting, []
        for at in range(0, len(waiting), self._most):
            task = asyncio.create_task(self._together(waiting[at : at + self._most]))
            self._under_way.add(task)
            task.add_done_callback(self._under_way.discard)

    async def _together(self, waiting: Sequence[_Waiting]) -> None:
        try:
            batch = EventBatch.from_checked_rows([one.event for one in waiting])
            with shared_waits([one.waits for one in waiting]):
                outputs = await self._decide(batch, [one.request_id for one in waiting])
        except Exception as error:
            for one in waiting:
                if not one.answer.done():
                    one.answer.set_exception(error)
            return
        for row, one in enumerate(waiting):
            if not one.answer.done():
                one.answer.set_result({name: values[row : row + 1] for name, values in outputs.items()})
