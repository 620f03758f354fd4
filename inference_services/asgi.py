"""What our ASGI middlewares share: the types of the specification, and a whole answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, NamedTuple

import orjson

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Message, Receive, Send], Awaitable[None]]
Header = tuple[bytes, bytes]

# The content types of V2: JSON, and JSON with binary tensors behind it.
JSON, BINARY = b"application/json", b"application/octet-stream"


class Answer(NamedTuple):
    """A whole answer, whose body is JSON.

    Attributes:
        status: HTTP status.
        body: of the answer.
        headers: beside its type and length.
    """

    status: int
    body: bytes
    headers: tuple[Header, ...] = ()

    @classmethod
    def error(cls, status: int, text: str, *headers: Header) -> Answer:
        """What every service answers to a request that it does not serve."""
        return cls(status, orjson.dumps({"error": text}), headers)

    async def send(self, send: Send) -> None:
        """Sends it."""
        head = ((b"content-type", JSON), (b"content-length", b"%d" % len(self.body)))
        await send({"type": "http.response.start", "status": self.status, "headers": [*head, *self.headers]})
        await send({"type": "http.response.body", "body": self.body})
