"""A load generator: POSTs over HTTP/1.1 connections that stay open, every status and body checked.

It runs in a process of its own on uvloop and does no more for a request than to write it, to find the end of its answer
and to look at both, some 20 microseconds, so that what it measures is the server.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import cast

import numpy as np
import uvloop

_HEADERS_END = b"\r\n\r\n"
_LENGTH = b"\r\ncontent-length:"
_CONNECTIONS_OPEN_LOOP = 64
# How long the last arrivals are waited for.
_DRAIN_S = 2.0


@dataclass(frozen=True)
class Work:
    """What is asked of a server.

    Attributes:
        port: on this machine.
        path: of every request.
        bodies: JSON requests, sent in turn.
        must_hold: what every answer holds.
        connections: requests at the same time.
        seconds: for how long.
        rate: requests a second of Poisson arrivals; 0 sends the next one when the last is answered.
        seed: of the arrivals.
    """

    port: int
    path: str
    bodies: Sequence[str]
    must_hold: str
    connections: int
    seconds: float
    rate: float = 0.0
    seed: int = 0


@dataclass(frozen=True)
class Load:
    """What came of it.

    Attributes:
        requests: answered, and given up at the end.
        failures: given up, not answered with 200, or without what must be in it.
        seconds: from the first request to the last answer.
        p50_ms: median time of a request; with arrivals, from its arrival on.
        p99_ms: the 99th percentile.
    """

    requests: int
    failures: int
    seconds: float
    p50_ms: float
    p99_ms: float

    @property
    def rate(self) -> float:
        """Requests answered as they must be, a second."""
        return (self.requests - self.failures) / self.seconds


class _Connection(asyncio.Protocol):
    """One connection, one request at a time."""

    def __init__(self) -> None:
        self._buffer = b""
        self._whole = 0
        self._answer: asyncio.Future[bytes] | None = None
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def send(self, request: bytes) -> asyncio.Future[bytes]:
        assert self._transport is not None
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return self._answer

    def data_received(self, data: bytes) -> None:
        self._buffer = self._buffer + data if self._buffer else data
        if not self._whole:
            end = self._buffer.find(_HEADERS_END)
            if end < 0:
                return
            head = self._buffer[: end + 2].lower()
            at = head.index(_LENGTH) + len(_LENGTH)
            self._whole = end + len(_HEADERS_END) + int(head[at : head.index(b"\r", at)])
        if len(self._buffer) >= self._whole and self._answer is not None:
            answer, self._buffer, self._whole = self._buffer, b"", 0
            self._answer.set_result(answer)

    def connection_lost(self, error: Exception | None) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(ConnectionResetError(str(error)))


class _Run:
    """One work, and the times of its requests."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._must_hold = work.must_hold.encode()
        head = f"POST {work.path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: "
        bodies = [body.encode() for body in work.bodies]
        self._requests = [head.encode() + b"%d\r\n\r\n" % len(body) + body for body in bodies]
        self._sent = 0
        self._failures = 0
        self._taken: list[float] = []
        self._pending: set[float] = set()
        self._clock = time.perf_counter  # that of the loop counts milliseconds

    async def measure(self) -> Load:
        """Sends for the time that was asked for, and waits for the last answers."""
        number = _CONNECTIONS_OPEN_LOOP if self._work.rate else self._work.connections
        connections = [await self._connect() for _ in range(number)]
        started = self._clock()
        until = started + self._work.seconds
        if self._work.rate:
            await self._arrivals(connections, started, until)
        else:
            await asyncio.gather(*(self._in_turn(connection, until) for connection in connections))
        seconds = self._clock() - started
        p50, p99 = np.percentile(self._taken, [50, 99]) * 1000
        return Load(len(self._taken), self._failures, seconds, float(p50), float(p99))

    async def _connect(self) -> _Connection:
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(_Connection, "127.0.0.1", self._work.port)
        return connection

    async def _in_turn(self, connection: _Connection, until: float) -> None:
        while self._clock() < until:
            await self._one(connection, self._clock())

    async def _arrivals(self, connections: Sequence[_Connection], started: float, until: float) -> None:
        """Poisson arrivals, whether or not the server keeps up; a request without a free connection waits for one."""
        gaps = np.random.default_rng(self._work.seed).exponential(1 / self._work.rate, 10**6)
        free, waiting = deque(connections), asyncio.Semaphore(len(connections))

        async def arrive(at: float) -> None:
            self._pending.add(at)
            async with waiting:
                connection = free.popleft()
                await self._one(connection, at)
                self._pending.remove(at)
                free.append(connection)

        under_way = set()
        for at in started + np.cumsum(gaps):
            if at > until:
                break
            if (pause := at - self._clock()) > 0:
                await asyncio.sleep(pause)
            task = asyncio.create_task(arrive(float(at)))
            under_way.add(task)
            task.add_done_callback(under_way.discard)
        if under_way:
            await asyncio.wait(under_way, timeout=_DRAIN_S)
        for task in under_way:
            task.cancel()
        # Whoever still waits has waited for at least so long.
        self._taken += [self._clock() - at for at in self._pending]
        self._failures += len(self._pending)

    async def _one(self, connection: _Connection, started: float) -> None:
        request = self._requests[self._sent % len(self._requests)]
        self._sent += 1
        answer = await connection.send(request)
        self._taken.append(self._clock() - started)
        if not answer.startswith(b"HTTP/1.1 200 ") or self._must_hold not in answer:
            self._failures += 1


async def _main(work: Work) -> Load:
    return await _Run(work).measure()


if __name__ == "__main__":
    json.dump(asdict(uvloop.run(_main(Work(**json.load(sys.stdin))))), sys.stdout)
