"""The load generator says truly what it sent and what became of it."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from tests.load_generator import Load, Work, load

BODIES = ['{"n":1}', '{"n":2}']
Answer = Callable[[bytes], Awaitable[bytes | None]]


def http(status: int, body: bytes) -> bytes:
    return b"HTTP/1.1 %d Something\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body)


@asynccontextmanager
async def server(answer: Answer) -> AsyncIterator[int]:
    """A port at which each request's body is answered; None closes the connection."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().split(b"content-length: ")[1].split(b"\r")[0])
                whole = await answer(await reader.readexactly(length))
                if whole is None:
                    return
                writer.write(whole)
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with listening:
        yield listening.sockets[0].getsockname()[1]


async def loaded(answer: Answer, work: Work) -> Load:
    async with server(answer) as port:
        return await asyncio.to_thread(load, replace(work, port=port))


WORK = Work(0, "/infer", BODIES, '"n"', connections=4, seconds=0.3)


async def test_what_each_request_was_answered_is_told():
    number = 0

    async def answer(body: bytes) -> bytes | None:
        nonlocal number
        number += 1
        return {0: http(200, body), 1: http(200, b"{}"), 2: http(429, body), 3: None}[number % 4]

    found = await loaded(answer, replace(WORK, rate=100.0, connections=64, seconds=0.5))
    told = Counter((one.status, one.right) for one in found.exchanges)
    assert set(told) == {(200, True), (200, False), (429, False), (-1, False)}
    assert found.failures == found.requests - told[200, True]


async def test_arrivals_do_not_wait_for_answers():
    async def answer(body: bytes) -> bytes:
        await asyncio.sleep(0.5)
        return http(200, body)

    found = await loaded(answer, replace(WORK, rate=100.0, connections=64))
    assert found.requests > 10
    assert found.failures == 0
    # All were sent before the first was answered.
    assert max(one.sent for one in found.exchanges) < min(one.ended for one in found.exchanges)


async def test_what_waits_for_a_connection_is_late_and_what_is_never_answered_failed():
    async def answer(_: bytes) -> bytes:
        await asyncio.sleep(60)
        return b""

    found = await loaded(answer, replace(WORK, rate=100.0))
    assert found.failures == found.requests > WORK.connections
    assert {one.status for one in found.exchanges} == {0}
    in_time = [one for one in found.exchanges if one.sent < WORK.seconds]
    assert len(in_time) == WORK.connections
    assert all(one.took >= 2.0 for one in found.exchanges)


async def test_callers_wait_for_each_answer_and_send_the_bodies_in_turn():
    under_way = most = 0
    seen: Counter[bytes] = Counter()

    async def answer(body: bytes) -> bytes:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        seen[body] += 1
        await asyncio.sleep(0.01)
        under_way -= 1
        return http(200, body)

    begin = time.perf_counter() + 0.7
    found = await loaded(answer, replace(WORK, begin=begin))
    assert time.perf_counter() >= begin + WORK.seconds
    assert most == WORK.connections
    assert found.failures == 0
    assert abs(seen[BODIES[0].encode()] - seen[BODIES[1].encode()]) <= 1
    assert found.requests == sum(seen.values())
    assert found.rate == pytest.approx(found.requests / found.seconds)
