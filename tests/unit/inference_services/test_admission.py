"""The limit of requests in flight, against a simulated server that answers one request after the other."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import pytest

from inference_services.admission import AdmissionLimit, Bounds, Waits, current_waits, shared_waits, waiting
from tests.load import percentile, poisson

TARGET_S = 0.025
BOUNDS = Bounds(TARGET_S, least=4, start=64, most=512)


class Queue:
    """A server with one worker, behind a limit.

    Args:
        service_s: what a request costs.
    """

    def __init__(self, service_s: float) -> None:
        self.limit = AdmissionLimit(BOUNDS)
        self.service_s = service_s
        self._free_at = 0.0
        self._under_way: list[tuple[float, float]] = []  # end, begin
        self.took: list[float] = []
        self.shed = 0

    def offer(self, rate: float, start: float, seconds: float) -> None:
        """Requests at Poisson arrivals; the counts start anew."""
        self.took, self.shed = [], 0
        for offset in poisson(rate, seconds):
            self._advance(start + offset)
            if self.limit.admit():
                self._free_at = max(self._free_at, start + offset) + self.service_s
                self._under_way.append((self._free_at, start + offset))
            else:
                self.shed += 1

    def _advance(self, now: float) -> None:
        while self._under_way and self._under_way[0][0] <= now:
            end, begin = self._under_way.pop(0)
            self.took.append(end - begin)
            self.limit.release(end - begin, end)


@pytest.mark.parametrize("service_s", [0.0005, 0.001, 0.004])
@pytest.mark.parametrize("overload", [1.2, 3, 10])
def test_overload_is_answered_in_time_and_nearly_all_of_the_capacity_is_used(service_s: float, overload: float):
    queue = Queue(service_s)
    queue.offer(overload / service_s, 0.0, 2.0)
    queue.offer(overload / service_s, 2.0, 5.0)
    assert percentile(queue.took, 0.99) < 1.6 * TARGET_S
    assert len(queue.took) * service_s > 0.9 * 5.0
    assert queue.shed


def test_the_first_moments_of_an_overload_are_bounded_by_the_start():
    queue = Queue(0.001)
    queue.offer(5000, 0.0, 0.5)
    assert max(queue.took) <= BOUNDS.start * 0.001 + 1e-9


@pytest.mark.parametrize("service_s", [0.0005, 0.001])
def test_nothing_is_refused_below_the_capacity(service_s: float):
    queue = Queue(service_s)
    queue.offer(0.8 / service_s, 0.0, 5.0)
    assert queue.shed == 0


def test_the_limit_grows_again_after_a_slow_time():
    queue = Queue(0.02)
    queue.offer(200, 0.0, 3.0)
    assert queue.limit.limit == BOUNDS.least
    queue.service_s = 0.0002
    queue.offer(6000, 3.0, 3.0)
    assert len(queue.took) * 0.0002 > 0.8 * 3.0
    assert queue.limit.limit > BOUNDS.start


def test_slow_requests_that_are_few_are_never_refused():
    limit = AdmissionLimit(BOUNDS)
    for second in range(100):
        assert all(limit.admit() for _ in range(BOUNDS.least))
        for _ in range(BOUNDS.least):
            limit.release(1.0, float(second))


def test_more_than_the_most_is_never_in_flight():
    limit = AdmissionLimit(Bounds(10.0, least=2, start=4, most=8))
    now = 0.0
    for _ in range(500):
        while limit.admit():
            pass
        assert limit.in_flight <= 8
        while limit.in_flight:
            now += 0.02
            limit.release(0.001, now)
    assert limit.limit == 8


BUSY = Bounds(0.5, least=2, start=64, most=64)


async def serve(limit: AdmissionLimit, call: Callable[[], Awaitable[None]]) -> None:
    """Forty callers, three requests each."""

    async def calls() -> None:
        for _ in range(3):
            if limit.admit():
                await limit.serve(call)

    await asyncio.gather(*(calls() for _ in range(40)))
    assert limit.in_flight == 0


async def test_a_part_that_is_slow_is_no_overload():
    async def wait() -> None:
        with waiting():
            await asyncio.sleep(0.7)

    async def call() -> None:
        await asyncio.gather(wait(), wait())

    limit = AdmissionLimit(BUSY)
    await serve(limit, call)
    assert limit.limit == BUSY.start


async def test_what_is_done_for_several_requests_at_once_is_waited_for_by_each():
    async def wait(among: list[Waits | None]) -> None:
        with shared_waits(among), waiting():
            await asyncio.sleep(0.7)

    together: list[Waits | None] = []
    work: list[asyncio.Task[None]] = []

    async def call() -> None:
        together.append(current_waits())
        if not work:
            work.append(asyncio.create_task(wait(together)))
        await work[0]

    limit = AdmissionLimit(BUSY)
    await asyncio.gather(*(limit.serve(call) for _ in range(40) if limit.admit()))
    assert limit.limit == BUSY.start


async def test_a_process_that_is_slow_itself_is():
    limit = AdmissionLimit(BUSY)
    await serve(limit, lambda: asyncio.sleep(0.7))
    assert limit.limit < BUSY.start


async def test_a_loop_that_is_late_for_the_answers_of_its_parts_is_an_overload():
    async def call() -> None:
        with waiting():
            await asyncio.sleep(0)
            time.sleep(0.02)

    limit = AdmissionLimit(BUSY)
    await serve(limit, call)
    assert limit.limit < BUSY.start


async def test_a_request_that_fails_is_released():
    async def call() -> None:
        raise ValueError("wrong")

    limit = AdmissionLimit(BOUNDS)
    limit.admit()
    with pytest.raises(ValueError, match="wrong"):
        await limit.serve(call)
    assert limit.in_flight == 0
