"""One Redis connection for any number of requests at a time, each a pipeline of commands.

redis-py spends 15 microseconds on every command of a pipeline, more than Redis itself; a request here is one write, and
its replies are parsed by hiredis as they come in.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, cast

import hiredis

# A command's RESP bytes in three parts, the key in the middle, which a cluster needs to see.
Command = tuple[bytes, bytes, bytes]
# What RESP2 knows: bytes, int, None, a list of such, or a `hiredis.ReplyError`.
Reply = Any


@dataclass(slots=True)
class _Request:
    """A pipeline that was sent.

    Attributes:
        expected: number of its replies.
        sent_s: when, on the loop's clock.
        answer: gets the replies; done early when nobody waits any more.
        replies: those that have come.
    """

    expected: int
    sent_s: float
    answer: asyncio.Future[list[Reply]]
    replies: list[Reply] = field(default_factory=list)


class Connection(asyncio.Protocol):
    """Sends pipelines and gives each its own replies, which Redis sends in the order of the commands.

    A request that is given up keeps its place in the queue: its replies, should they come, are thrown away, and never
    taken for those of a later one.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._reader = hiredis.Reader()
        self._requests: deque[_Request] = deque()
        self._transport: asyncio.Transport | None = None

    @property
    def open(self) -> bool:
        """Whether requests can be sent."""
        return self._transport is not None and not self._transport.is_closing()

    def overdue(self, patience_s: float) -> bool:
        """Whether the oldest request has waited for longer."""
        return bool(self._requests) and self._loop.time() - self._requests[0].sent_s > patience_s

    def send(self, commands: Sequence[Command]) -> asyncio.Future[list[Reply]]:
        """Sends commands; returns the future of their replies, which fails with OSError when the connection is lost."""
        answer = self._loop.create_future()
        if self._transport is None or self._transport.is_closing():
            answer.set_exception(ConnectionResetError("the connection to Redis is closed"))
            return answer
        self._requests.append(_Request(len(commands), self._loop.time(), answer))
        self._transport.write(b"".join(chain.from_iterable(commands)))
        return answer

    def abort(self) -> None:
        """Closes the connection at once; what was asked fails."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio: the connection stands."""
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """asyncio: bytes came in."""
        self._reader.feed(data)
        gets, requests = self._reader.gets, self._requests
        try:
            while (reply := gets()) is not False:
                request = requests[0]
                request.replies.append(reply)
                if len(request.replies) == request.expected:
                    requests.popleft()
                    if not request.answer.done():
                        request.answer.set_result(request.replies)
        except (hiredis.ProtocolError, IndexError):  # not RESP, or a reply that nobody asked for
            self.abort()

    def connection_lost(self, error: Exception | None) -> None:
        """asyncio: the connection is gone."""
        lost = error if isinstance(error, OSError) else ConnectionResetError("the connection to Redis was lost")
        for request in self._requests:
            if not request.answer.done():
                request.answer.set_exception(lost)
        self._requests.clear()
