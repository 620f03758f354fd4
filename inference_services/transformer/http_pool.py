"""HTTP/1.1 requests to one server over connections that stay open, without what a general client costs.

Parsing is httptools', the parser of uvicorn. A request has no timeout of its own: who gives one up, by cancelling it,
closes its connection.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from dataclasses import dataclass
from typing import cast
from urllib.parse import urlsplit

import httptools

from inference_services.errors import BadSettings

_CONNECT_S = 5.0


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """What the server answered.

    Attributes:
        status: HTTP status.
        body: the content.
    """

    status: int
    body: bytes


class HttpPool:
    """POSTs to one server.

    Args:
        base_url: http(s)://host[:port].
        connections: callers queue for a connection beyond this many.
        tls: how to check an https server; the system's authorities when None.

    Raises:
        BadSettings: the address is not one.
    """

    def __init__(self, base_url: str, connections: int = 256, tls: ssl.SSLContext | None = None) -> None:
        parts = urlsplit(base_url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise BadSettings(f"a server's address must be http(s)://host[:port], not {base_url!r}")
        self._host = parts.hostname
        self._port = parts.port or (443 if parts.scheme == "https" else 80)
        self._tls = (tls or ssl.create_default_context()) if parts.scheme == "https" else None
        self._host_header = f"host: {parts.netloc.rpartition('@')[2]}\r\n".encode()
        self._free: deque[_Connection] = deque()
        self._open: set[_Connection] = set()
        self._slots = asyncio.Semaphore(connections)

    async def post(self, path: str, headers: bytes, body: bytes) -> HttpAnswer:
        """Sends one request.

        Args:
            path: of the URL.
            headers: lines that end with CRLF, without `host` and `content-length`.
            body: the content.

        Raises:
            OSError: the server cannot be reached, or the connection was lost.
        """
        head = b"POST %b HTTP/1.1\r\n%b%bcontent-length: %d\r\n\r\n"
        request = head % (path.encode(), self._host_header, headers, len(body)) + body
        async with self._slots:
            while self._free:
                connection = self._free.pop()
                try:
                    return await self._exchange(connection, request)
                except _Stale:
                    continue  # the server had closed it while it was idle
            return await self._exchange(await self._connect(), request)

    def close(self) -> None:
        """Closes all connections; what is under way fails."""
        for connection in tuple(self._open):
            connection.abort()

    async def _exchange(self, connection: _Connection, request: bytes) -> HttpAnswer:
        try:
            answer = await connection.send(request)
        except BaseException:
            connection.abort()
            raise
        if connection.reusable:
            self._free.append(connection)
        else:
            connection.abort()
        return answer

    async def _connect(self) -> _Connection:
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(_CONNECT_S):
            _, connection = await loop.create_connection(
                lambda: _Connection(self._open), self._host, self._port, ssl=self._tls
            )
        return connection


class _Stale(ConnectionResetError):
    """A connection was closed before any of an answer had come."""


class _Connection(asyncio.Protocol):
    """One connection, one request at a time.

    Args:
        register: holds every open connection.
    """

    def __init__(self, register: set[_Connection]) -> None:
        self._register = register
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[HttpAnswer] | None = None
        self._kept = False
        self._begun = False
        self._parts: list[bytes] = []

    @property
    def reusable(self) -> bool:
        """Whether another request may follow the one that was answered."""
        return self._kept and self._transport is not None and not self._transport.is_closing()

    def send(self, request: bytes) -> asyncio.Future[HttpAnswer]:
        """Sends a request; returns the future of its answer, which fails with OSError."""
        self._answer = asyncio.get_running_loop().create_future()
        if self._transport is None or self._transport.is_closing():
            self._answer.set_exception(_Stale("the connection is closed"))
            return self._answer
        self._transport.write(request)
        return self._answer

    def abort(self) -> None:
        """Closes the connection at once."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio: the connection stands."""
        self._transport = cast(asyncio.Transport, transport)
        self._register.add(self)

    def data_received(self, data: bytes) -> None:
        """asyncio: bytes came in."""
        if self._answer is None or self._answer.done():
            return self.abort()  # nobody asked
        self._begun = True
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._fail(ConnectionError(f"the answer is not HTTP: {error}"))
        return None

    def connection_lost(self, error: Exception | None) -> None:
        """asyncio: the connection is gone."""
        self._register.discard(self)
        reason = f"the connection was lost: {error}"
        self._fail(_Stale(reason) if self._kept and not self._begun else ConnectionResetError(reason))

    def on_message_begin(self) -> None:
        """httptools: an answer begins."""
        self._parts.clear()

    def on_body(self, body: bytes) -> None:
        """httptools: a part of the content."""
        self._parts.append(body)

    def on_message_complete(self) -> None:
        """httptools: an answer is whole."""
        self._kept, self._begun = self._parser.should_keep_alive(), False
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(HttpAnswer(self._parser.get_status_code(), b"".join(self._parts)))

    def _fail(self, error: OSError) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error)
        self.abort()
