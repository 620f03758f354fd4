"""Uvicorn's HTTP protocol, which hands plain inference requests to `DirectRoute`, and all else to the application."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from inference_services.asgi import Answer, Header, Message, Receive, Send
from inference_services.direct_form import Form
from inference_services.direct_route import DirectRoute
from inference_services.protocol import MAX_BODY_BYTES
from inference_services.request_context import REQUEST_ID

_HEAD = b"content-length: %d\r\ncontent-type: application/json\r\n" + REQUEST_ID.encode() + b": %b\r\n"
_CLOSING = b"connection: close\r\n"
# Uvicorn sets a cycle's event when there is news for its application; a request of ours has none that waits.
_NOBODY_WAITS = asyncio.Event()
# Of bodies that are still coming, on all connections. Beyond it a request goes to KServe's route, which reads a
# body when the request is taken on.
_MOST_COMING = 8 * MAX_BODY_BYTES


class Connections:
    """What all connections of a server share.

    Attributes:
        coming: bytes of bodies that are still coming.
        headers: those that uvicorn adds to each answer, as bytes.
        closing: whether they tell the caller that the connection ends.
    """

    def __init__(self) -> None:
        self.coming = 0
        self.headers = b""
        self.closing = False
        self._of: Sequence[Header] | None = None
        self._number = 0

    def read(self, headers: Sequence[Header]) -> None:
        """Takes uvicorn's headers over, if they have changed: it makes them anew each second."""
        if headers is self._of and len(headers) == self._number:
            return
        self._of, self._number = headers, len(headers)
        self.headers = b"".join(b"%b: %b\r\n" % header for header in headers)
        self.closing = any(name == b"connection" for name, _ in headers)


class DirectProtocol(HttpToolsProtocol):
    """One connection.

    While a request goes the direct way, it is in the place of uvicorn's cycle, which is what shutdown, the end of the
    connection, and the next request on it look at.

    Args:
        route: answers plain requests.
        shared: with the other connections of the server.
        **given: by uvicorn.
    """

    def __init__(self, route: DirectRoute, shared: Connections, **given: Any) -> None:
        super().__init__(**given)
        self._route = route
        self.shared = shared
        self._reading: DirectExchange | None = None

    def on_headers_complete(self) -> None:
        """Called by the parser: the way of the request is decided here."""
        form = self._route.form(self.url, self.headers) if self._may_be_direct() else None
        if form is None or form.length > min(MAX_BODY_BYTES, _MOST_COMING - self.shared.coming):
            return super().on_headers_complete()
        self.shared.coming += form.length
        self._reading = self.cycle = DirectExchange(self, form)  # type: ignore[assignment]
        return None

    def on_body(self, body: bytes) -> None:
        """Called by the parser, with a piece of the body."""
        if self._reading is None:
            super().on_body(body)
        else:
            self._reading.parts.append(body)

    def on_message_complete(self) -> None:
        """Called by the parser, at the end of the body."""
        exchange = self._read()
        if exchange is None:
            super().on_message_complete()
        else:
            self._route.take(exchange)

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the transport: what is still coming will not come."""
        self._read()
        super().connection_lost(exc)
        # It knows this connection: both would stay, with the body, until the garbage collector finds them.
        self.cycle = None  # type: ignore[assignment]

    def _read(self) -> DirectExchange | None:
        """The request whose body was coming, which it no longer does."""
        exchange, self._reading = self._reading, None
        if exchange is not None:
            self.shared.coming -= exchange.form.length
        return exchange

    def _may_be_direct(self) -> bool:
        """Nothing is asked of the connection but an answer, and no other request on it waits for one."""
        return (
            self.parser.get_method() == b"POST"
            and self.parser.get_http_version() == "1.1"
            and not self.parser.should_upgrade()
            and not self.expect_100_continue
            and (self.cycle is None or self.cycle.response_complete)
            and not self.flow.write_paused
        )


class DirectExchange:
    """One request and its answer.

    Args:
        protocol: of the connection, which has just read the headers.
        form: of the request.

    Attributes:
        headers: of the request, their names in lower case.
        form: how it is written.
        parts: of the body, as they come.
        response_complete, disconnected, keep_alive, message_event: as in uvicorn's cycle, for uvicorn.
    """

    __slots__ = (
        "_protocol",
        "_scope",
        "_url",
        "disconnected",
        "form",
        "headers",
        "keep_alive",
        "message_event",
        "parts",
        "response_complete",
    )

    def __init__(self, protocol: DirectProtocol, form: Form) -> None:
        self._protocol = protocol
        # The protocol's own are of the next request, if that has come before this one is answered.
        self._scope, self._url, self.headers = protocol.scope, protocol.url, protocol.headers
        self.form = form
        self.parts: list[bytes] = []
        self.keep_alive = protocol.parser.should_keep_alive()
        self.response_complete = self.disconnected = False
        self.message_event = _NOBODY_WAITS

    @property
    def body(self) -> bytes:
        """The body, once it is there and until it is answered."""
        return self.parts[0] if len(self.parts) == 1 else b"".join(self.parts)

    @property
    def tasks(self) -> set[asyncio.Task[None]]:
        """Those that uvicorn waits for before it ends."""
        return self._protocol.tasks

    def respond(self, answer: Answer, request_id: str) -> None:
        """Writes the answer at once, head and body together."""
        protocol, shared = self._protocol, self._protocol.shared
        self.parts.clear()  # the connection keeps this one until its next request
        # Uvicorn tells no more than the last request of a connection that its caller has left.
        if protocol.transport.is_closing():
            return
        shared.read(protocol.server_state.default_headers)
        closing = b"" if self.keep_alive or shared.closing else _CLOSING
        head = _HEAD % (len(answer.body), request_id.encode())
        more = b"".join(b"%b: %b\r\n" % header for header in answer.headers) if answer.headers else b""
        pieces = (STATUS_LINE[answer.status], shared.headers, more, head, closing, b"\r\n", answer.body)
        protocol.transport.write(b"".join(pieces))
        self.response_complete = True
        if not self.keep_alive or shared.closing:
            protocol.transport.close()
        protocol.on_response_complete()

    def asgi(self) -> tuple[Message, Receive, Send]:
        """The same request for an ASGI application, with uvicorn's cycle, which takes this one's place."""
        protocol = self._protocol
        scope = self._scope
        scope["method"], scope["query_string"] = "POST", b""
        scope["path"], scope["raw_path"] = self._url.decode(), self._url
        cycle = RequestResponseCycle(
            scope=scope,
            transport=protocol.transport,
            flow=protocol.flow,
            logger=protocol.logger,
            access_logger=protocol.access_logger,
            access_log=protocol.access_log,
            default_headers=protocol.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=False,
            keep_alive=self.keep_alive,
            on_response=protocol.on_response_complete,
        )
        cycle.body += self.body
        self.parts.clear()
        cycle.more_body = False
        cycle.message_event.set()
        cycle.disconnected = protocol.transport.is_closing()
        if protocol.cycle is self:  # type: ignore[comparison-overlap]
            protocol.cycle = cycle
        return cycle.scope, cycle.receive, cycle.send  # type: ignore[return-value]

    def abort(self) -> None:
        """Closes the connection: the answer cannot be written whole."""
        self._protocol.transport.close()
