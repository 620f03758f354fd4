"""`python -m tests.load_process`: the load generator; reads a `Work` and writes a `Load`, as JSON.

It runs on uvloop and does no more for a request than to write it, to find the end of its answer and to look at it, some
20 microseconds, so that what it measures is the server.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import cast

import uvloop

from tests.load import poisson, post
from tests.load_generator import Exchange, Load, Work

_HEADERS_END = b"\r\n\r\n"
_LENGTH = b"\r\ncontent-length:"
# How long the last arrivals are waited for.
_DRAIN_S = 2.0


class _Connection(asyncio.Protocol):
    """One connection, one request at a time.

    Args:
        answered: is told of each whole answer.
        lost: is told when it is closed.
    """

    def __init__(self, answered: Callable[[_Connection, bytes], None], lost: Callable[[_Connection], None]) -> None:
        self._answered = answered
        self._lost = lost
        self._buffer = b""
        self._whole = 0
        self._transport: asyncio.Transport | None = None
        self.due = self.sent = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def send(self, request: bytes, due: float, now: float) -> None:
        assert self._transport is not None
        self.due, self.sent = due, now
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._buffer = self._buffer + data if self._buffer else data
        if not self._whole:
            end = self._buffer.find(_HEADERS_END)
            if end < 0:
                return
            head = self._buffer[: end + 2].lower()
            at = head.index(_LENGTH) + len(_LENGTH)
            self._whole = end + len(_HEADERS_END) + int(head[at : head.index(b"\r", at)])
        if len(self._buffer) >= self._whole:
            answer, self._buffer, self._whole = self._buffer, b"", 0
            self._answered(self, answer)

    def connection_lost(self, error: Exception | None) -> None:
        self._lost(self)


class _Run:
    """One work, and the times of its requests."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._must_hold = work.must_hold.encode()
        self._requests = [post(work.path, body.encode()) for body in work.bodies]
        self._number = 0
        self._exchanges: list[Exchange] = []
        self._free: deque[_Connection] = deque()
        self._under_way: set[_Connection] = set()
        # Arrivals that wait for a free connection.
        self._waiting: deque[float] = deque()
        self._none_left = asyncio.Event()
        self._clock = time.perf_counter  # that of the loop counts milliseconds
        self._begin = self._until = 0.0

    async def measure(self) -> Load:
        """Sends for the time that was asked for, and waits for the last answers."""
        loop = asyncio.get_running_loop()
        for _ in range(self._work.connections):
            _, connection = await loop.create_connection(
                lambda: _Connection(self._answered, self._lost), "127.0.0.1", self._work.port
            )
            self._free.append(connection)
        await asyncio.sleep(max(0.0, self._work.begin - self._clock()))
        self._begin = self._clock()
        self._until = self._begin + self._work.seconds
        if self._work.rate:
            await self._arrivals()
        else:
            for connection in list(self._free):
                self._send(connection, self._clock())
            self._free.clear()
        await self._drain()
        return Load(self._clock() - self._begin, self._exchanges)

    async def _arrivals(self) -> None:
        """Poisson arrivals, whether or not the server keeps up; a request without a free connection waits for one."""
        for offset in poisson(self._work.rate, self._work.seconds, self._work.seed):
            due = self._begin + offset
            if (pause := due - self._clock()) > 0:
                await asyncio.sleep(pause)
            if self._free:
                # The one that was idle longest: the server closes those that are idle for long.
                self._send(self._free.popleft(), due)
            else:
                self._waiting.append(due)

    async def _drain(self) -> None:
        """Until all is answered; what is not in good time has waited for at least so long."""
        self._none_left.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(self._until - self._clock() + _DRAIN_S):
                while self._under_way:
                    await self._none_left.wait()
        now = self._clock()
        for connection in self._under_way:
            self._record(connection.due, connection.sent, now, 0, b"")
        for due in self._waiting:
            self._record(due, now, now, 0, b"")

    def _send(self, connection: _Connection, due: float) -> None:
        request = self._requests[self._number % len(self._requests)]
        self._number += 1
        self._under_way.add(connection)
        connection.send(request, due, self._clock())

    def _answered(self, connection: _Connection, answer: bytes) -> None:
        now = self._clock()
        self._under_way.discard(connection)
        self._record(connection.due, connection.sent, now, int(answer[9:12]), answer)
        if self._waiting:
            self._send(connection, self._waiting.popleft())
        elif not self._work.rate and now < self._until:
            self._send(connection, now)
        else:
            self._free.append(connection)
        if not self._under_way:
            self._none_left.set()

    def _lost(self, connection: _Connection) -> None:
        if connection in self._under_way:
            self._under_way.discard(connection)
            self._record(connection.due, connection.sent, self._clock(), -1, b"")
        elif connection in self._free:
            self._free.remove(connection)
        if not self._under_way:
            self._none_left.set()

    def _record(self, due: float, sent: float, ended: float, status: int, answer: bytes) -> None:
        right = status == 200 and self._must_hold in answer
        begin = self._begin
        self._exchanges.append(Exchange(due - begin, sent - begin, ended - begin, status, right))


async def _main(work: Work) -> Load:
    return await _Run(work).measure()


if __name__ == "__main__":
    gc.disable()  # nothing here lies in a cycle, and a collection would hold up what is due
    made = uvloop.run(_main(Work(**json.load(sys.stdin))))
    json.dump([made.seconds, made.exchanges], sys.stdout)
