"""How many requests a process takes on at a time: as many as it answers within a target, found by measuring.

The rule is Little's law with a known target, as in Netflix's concurrency-limits
(https://github.com/Netflix/concurrency-limits): in a queue, the time that a request spends in the process is
proportional to the number of requests in it, so the limit is multiplied by target / measured time. What a request
waits for another process is no such time, for a part that is slow or hangs is not an overload of this one: of each wait
only that much counts as the event loop needed to come round when the request came.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from time import monotonic
from typing import TypeVar

T = TypeVar("T")

# How far one window may move the limit, and what a window is.
_LEAST_STEP, _LARGEST_STEP = 0.5, 1.5
_WINDOW_S = 0.1
_WINDOW_REQUESTS = 10
# The share of a window's requests that the target is for.
_SHARE = 0.9


@dataclass(frozen=True)
class Bounds:
    """What the limit may be.

    Attributes:
        target_s: the time in the process that requests should not exceed, seconds.
        least: requests in flight that are always allowed.
        start: the limit of a process that has measured nothing.
        most: requests in flight that are never exceeded.
    """

    target_s: float
    least: int
    start: int
    most: int


# Rounds of the loop between an answer on a socket and the request that goes on with it: the read, and the wake-up.
_ROUNDS = 2
# When a request waited for others: begin and end, on the clock of `time.monotonic`.
Waits = list[tuple[float, float]]
_waits: ContextVar[Waits | None] = ContextVar("waits", default=None)


@contextmanager
def waiting() -> Iterator[None]:
    """Around a call of another process, while a request is served."""
    begin = monotonic()
    try:
        yield
    finally:
        waits = _waits.get()
        if waits is not None:
            waits.append((begin, monotonic()))


def current_waits() -> Waits | None:
    """Those of the request that is being served; None when none is."""
    return _waits.get()


@contextmanager
def shared_waits(among: Iterable[Waits | None]) -> Iterator[None]:
    """Around what is done for several requests at once: what it waits for, each of them has waited for."""
    waits: Waits = []
    token = _waits.set(waits)
    try:
        yield
    finally:
        _waits.reset(token)
        for one in among:
            if one is not None:
                one.extend(waits)


class AdmissionLimit:
    """Counts the requests in flight and moves the limit; times are passed in, seconds on one clock."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._limit = float(bounds.start)
        self._took: list[float] = []
        self._peak = 0
        self._window_end = 0.0
        self.in_flight = 0

    @property
    def limit(self) -> int:
        """Requests that may be in flight now."""
        return int(self._limit)

    def admit(self) -> bool:
        """Takes one more request on, unless the limit is reached; then `release` must follow."""
        if self.in_flight >= self.limit:
            self._peak = self.limit
            return False
        self.in_flight += 1
        self._peak = max(self._peak, self.in_flight)
        return True

    def release(self, took_s: float, now: float) -> None:
        """A request that was admitted has left after `took_s`."""
        self.in_flight -= 1
        self._took.append(took_s)
        if now >= self._window_end and len(self._took) >= _WINDOW_REQUESTS:
            self._move()
            self._window_end = now + _WINDOW_S

    async def serve(self, call: Callable[[], Awaitable[T]]) -> T:
        """Makes the call for a request that has just been admitted, and releases it with the time that it took."""
        begin = monotonic()
        # Lets all who came at the same time be counted before one is served.
        await asyncio.sleep(0)
        with self.serving(begin):
            return await call()

    def serving(self, admitted: float) -> _Serving:
        """Around what is done for a request that was admitted then, on the clock of `time.monotonic`: releases it."""
        return _Serving(self, admitted)

    def _move(self) -> None:
        slow = sorted(self._took)[int(len(self._took) * _SHARE)]
        step = min(max(self._bounds.target_s / max(slow, 1e-9), _LEAST_STEP), _LARGEST_STEP)
        if step < 1:
            # What was in flight took too long, however far above it the limit was.
            wanted = min(self._limit, self._peak) * step
        elif self._peak >= self.limit:
            wanted = self._limit * step + 1
        else:
            wanted = self._limit  # a limit that nobody touches is not known to be too low
        self._limit = min(max(wanted, self._bounds.least), self._bounds.most)
        self._took.clear()
        self._peak = self.in_flight


class _Serving:
    """See `AdmissionLimit.serving`; the time between the admission and its begin is one round of the event loop."""

    __slots__ = ("_admitted", "_lag", "_limit", "_token", "_waits")

    def __init__(self, limit: AdmissionLimit, admitted: float) -> None:
        self._limit = limit
        self._admitted = admitted

    def __enter__(self) -> None:
        self._lag = monotonic() - self._admitted
        self._waits: Waits = []
        self._token = _waits.set(self._waits)

    def __exit__(self, *_: object) -> None:
        _waits.reset(self._token)
        now = monotonic()
        covered, number = _covered(self._waits) if self._waits else (0.0, 0)
        self._limit.release(now - self._admitted - covered + number * _ROUNDS * self._lag, now)


def _covered(intervals: Waits) -> tuple[float, int]:
    """Seconds that lie in at least one of the intervals, and the number of stretches that they form."""
    covered, stretches, reached = 0.0, 0, float("-inf")
    for begin, end in sorted(intervals):
        covered += max(0.0, end - max(begin, reached))
        stretches += begin > reached
        reached = max(reached, end)
    return covered, stretches
