"""A coroutine runs without a task until it waits, and then as any other."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from typing import Any

import pytest

from inference_services import eager

VALUE: ContextVar[str] = ContextVar("value", default="")
Tasks = set[asyncio.Task[None]]


async def test_what_does_not_wait_has_ended_and_had_no_task() -> None:
    seen: list[Any] = []
    tasks: Tasks = set()

    async def step() -> str:
        return "inner"

    async def work() -> None:
        seen.extend((await step(), asyncio.current_task()))

    before = asyncio.all_tasks()
    eager.start(work(), tasks)
    assert seen == ["inner", asyncio.current_task()]  # whoever started it; nothing when that is a callback
    assert not tasks
    assert asyncio.all_tasks() == before


async def test_what_waits_goes_on_in_a_task_with_its_context() -> None:
    seen: list[Any] = []
    tasks: Tasks = set()
    gate: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def work() -> None:
        token = VALUE.set("mine")
        try:
            seen.append(await gate)
            async with asyncio.timeout(10):  # needs a task
                await asyncio.sleep(0)
            seen.append(VALUE.get())
        finally:
            VALUE.reset(token)
        seen.append(VALUE.get())

    eager.start(work(), tasks)
    assert VALUE.get() == ""
    (task,) = tasks
    gate.set_result("opened")
    await task
    await asyncio.sleep(0)
    assert seen == ["opened", "mine", ""]
    assert not tasks


async def test_a_failure_that_is_waited_for_is_the_coroutine_s() -> None:
    seen: list[str] = []
    tasks: Tasks = set()
    gate: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def work() -> None:
        try:
            await gate
        except KeyError as error:
            seen.append(str(error))
            await asyncio.sleep(0)
        seen.append("went on")

    eager.start(work(), tasks)
    gate.set_exception(KeyError("lost"))
    await asyncio.gather(*tasks)
    assert seen == ["'lost'", "went on"]


async def test_a_task_that_is_cancelled_before_its_first_step_ends_the_coroutine_in_its_context() -> None:
    seen: list[str] = []
    tasks: Tasks = set()

    async def work() -> None:
        token = VALUE.set("mine")
        try:
            await asyncio.sleep(60)
        finally:
            VALUE.reset(token)  # an error in any other context
            seen.append("ended")

    eager.start(work(), tasks)
    (task,) = tasks
    task.cancel()
    await asyncio.wait({task})
    await asyncio.sleep(0)
    assert seen == ["ended"]
    assert not tasks


async def test_a_cancelled_task_cancels_the_coroutine() -> None:
    seen: list[str] = []
    tasks: Tasks = set()

    async def work() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    eager.start(work(), tasks)
    (task,) = tasks
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert seen == ["cancelled"]
