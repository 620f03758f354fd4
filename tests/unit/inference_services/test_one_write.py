"""An answer leaves in one piece, and everything else about it is uvicorn's."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from inference_services.one_write import OneWriteProtocol

App = Callable[[Any, Any, Any], Awaitable[None]]
REQUEST = b"POST /x HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\nhi"
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"


class Wire(asyncio.Transport):
    """Keeps what is written, piece by piece."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.closed = False

    def write(self, data: Any) -> None:
        assert not self.closed
        self.written.append(bytes(data))

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def set_protocol(self, protocol: Any) -> None: ...


async def exchange(app: App, *pieces: bytes) -> Wire:
    """What is answered to these bytes."""
    config = uvicorn.Config(app, log_config=None, lifespan="off", proxy_headers=False)
    config.load()
    wire, state = Wire(), ServerState()
    protocol = OneWriteProtocol(config, state, {})
    protocol.connection_made(wire)
    for piece in pieces:
        protocol.data_received(piece)
        while state.tasks:
            await asyncio.sleep(0)
    return wire


def answering(*parts: bytes, status: int = 200, length: int | None = None) -> App:
    async def app(_: Any, receive: Any, send: Any) -> None:
        while (await receive()).get("more_body"):
            pass
        size = sum(map(len, parts)) if length is None else length
        await send({"type": "http.response.start", "status": status, "headers": [(b"content-length", b"%d" % size)]})
        for at, part in enumerate(parts, 1):
            await send({"type": "http.response.body", "body": part, "more_body": at < len(parts)})

    return app


async def test_head_and_body_are_one_write() -> None:
    wire = await exchange(answering(b"hello"), REQUEST, REQUEST)
    assert wire.written == [OK, OK]
    assert not wire.closed


async def test_requests_that_come_together_are_answered_in_order() -> None:
    wire = await exchange(answering(b"hello"), REQUEST + REQUEST + REQUEST)
    assert wire.written == [OK, OK, OK]


async def test_the_parts_of_a_long_answer_follow_as_they_are_made() -> None:
    wire = await exchange(answering(b"HTTP/1.1 ", b"hello"), REQUEST)
    assert wire.written == [b"HTTP/1.1 200 OK\r\ncontent-length: 14\r\n\r\nHTTP/1.1 ", b"hello"]


async def test_an_empty_answer_leaves_too() -> None:
    wire = await exchange(answering(b"", status=204), REQUEST)
    assert b"".join(wire.written) == b"HTTP/1.1 204 No Content\r\ncontent-length: 0\r\n\r\n"


async def test_a_caller_that_waits_for_leave_to_send_its_body_gets_it() -> None:
    head = b"POST /x HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n"
    config = uvicorn.Config(answering(b"hello"), log_config=None, lifespan="off", proxy_headers=False)
    config.load()
    wire, state = Wire(), ServerState()
    protocol = OneWriteProtocol(config, state, {})
    protocol.connection_made(wire)
    protocol.data_received(head)
    for _ in range(5):
        await asyncio.sleep(0)
    assert wire.written == [b"HTTP/1.1 100 Continue\r\n\r\n"]
    protocol.data_received(b"hi")
    while state.tasks:
        await asyncio.sleep(0)
    assert wire.written[1:] == [OK]


async def test_an_answer_that_breaks_off_shows_its_head_and_closes(caplog: pytest.LogCaptureFixture) -> None:
    async def app(_: Any, __: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
        raise RuntimeError("gone")

    wire = await exchange(app, REQUEST)
    assert wire.written == [b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n"]
    assert wire.closed
    assert "gone" in caplog.text


@pytest.mark.parametrize("method", [b"GET", b"HEAD"])
async def test_other_methods_are_uvicorn_s(method: bytes) -> None:
    wire = await exchange(answering(b"hello"), method + b" /x HTTP/1.1\r\nhost: a\r\n\r\n")
    assert b"".join(wire.written) == (OK if method == b"GET" else OK.removesuffix(b"hello"))
