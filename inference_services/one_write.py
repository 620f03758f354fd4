"""Uvicorn's HTTP protocol with one write for an answer: uvicorn writes the head and the body of it apart.

On uvloop each write is a system call, and wakes the caller: the first time for a head that is of no use to it.
"""

from __future__ import annotations

from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle


class OneWriteProtocol(HttpToolsProtocol):
    """Holds the head of an answer until its body, or the first part of it, is written.

    Of answers to POST only: every one of those has a body, if an empty one.
    """

    def on_headers_complete(self) -> None:
        """Called by the parser; the application starts later, with the transport that is put here."""
        before = self.cycle
        super().on_headers_complete()
        if self.cycle is not before and self.scope["method"] == "POST":
            self.cycle.transport = _JoinedWrites(self.cycle)  # type: ignore[assignment]


class _JoinedWrites:
    """What a cycle of request and answer uses of its transport."""

    __slots__ = ("_cycle", "_head", "_transport", "is_closing")

    def __init__(self, cycle: RequestResponseCycle) -> None:
        self._cycle = cycle
        self._transport: Any = cycle.transport
        self._head: bytes | None = None
        self.is_closing = self._transport.is_closing

    def write(self, data: bytes) -> None:
        """Writes; of a started answer, the first piece is its head."""
        if self._head is None and self._cycle.response_started:
            self._head = data
            return
        if self._head:
            data, self._head = self._head + data, b""
        self._transport.write(data)

    def close(self) -> None:
        """Closes, after what is held."""
        if self._head:
            self._transport.write(self._head)
            self._head = b""
        self._transport.close()
