"""Runs a coroutine without a task for as long as it does not wait."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Generator
from contextvars import copy_context
from functools import partial
from types import coroutine as awaitable
from typing import Any


def start(coroutine: Coroutine[Any, Any, None], tasks: set[asyncio.Task[None]]) -> None:
    """Runs it at once, in a context of its own, up to where it first waits; the rest of it becomes one of `tasks`.

    Python 3.12 has this as `asyncio.eager_task_factory`. Here nothing is the current task before the first wait: what
    looks for it (`asyncio.timeout`, anyio) must come after one, for which `asyncio.sleep(0)` is enough.
    """
    context = copy_context()
    try:
        awaited = context.run(coroutine.send, None)
    except StopIteration:
        return
    task = asyncio.get_running_loop().create_task(_rest(coroutine, awaited), context=context)
    tasks.add(task)

    def ended(task: asyncio.Task[None]) -> None:
        tasks.discard(task)
        coroutine.close()  # it has not ended if the task was cancelled before its first step

    task.add_done_callback(ended, context=context)


@awaitable
def _rest(coroutine: Coroutine[Any, Any, None], awaited: Any) -> Generator[Any, Any, None]:
    """What is left of a coroutine that waits for `awaited`."""
    while True:
        try:
            step = partial(coroutine.send, (yield awaited))
        except BaseException as error:
            step = partial(coroutine.throw, error)
        try:
            awaited = step()
        except StopIteration:
            return
