"""A client over HTTP/1.1 on loopback that says what became of each request, and what is common to all load.

A client of its own, because it must cost less than the server under test: about 0.1 ms a request. `load_generator`, for
a server at its limit, costs less still and has a process of its own.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Reply:
    """What became of one request.

    Attributes:
        status: the HTTP status; 0 when the connection was refused, -1 when it was lost before the whole answer.
        headers: in lower case.
        body: of the answer.
        seconds: from when the request was due to its whole answer.
        due: the loop's time at which it was due.
    """

    status: int
    seconds: float
    due: float
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


class Client:
    """A pool of kept connections to one port, as many as are needed.

    Args:
        port: on loopback.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def send(self, request: bytes, due: float | None = None, *, head: bool = False) -> Reply:
        """Sends a whole request and reads the answer; `head` for a HEAD request, whose answer has no body."""
        clock = asyncio.get_running_loop().time
        due = clock() if due is None else due
        try:
            reader, writer = self._idle.pop() if self._idle else await asyncio.open_connection("127.0.0.1", self._port)
        except OSError:
            return Reply(0, clock() - due, due)
        try:
            writer.write(request)
            status, headers, body = await _answer(reader, head)
        except (OSError, asyncio.IncompleteReadError, ValueError):
            writer.close()
            return Reply(-1, clock() - due, due)
        if headers.get("connection") == "close":
            writer.close()
        else:
            self._idle.append((reader, writer))
        return Reply(status, clock() - due, due, headers, body)

    def close(self) -> None:
        for _, writer in self._idle:
            writer.close()


async def _answer(reader: asyncio.StreamReader, head: bool) -> tuple[int, dict[str, str], bytes]:
    first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}
    status = int(first.split()[1])
    if headers.get("transfer-encoding") == "chunked" and not head:
        return status, headers, await _chunks(reader)
    length = 0 if head else int(headers.get("content-length", "0"))
    return status, headers, await reader.readexactly(length)


async def _chunks(reader: asyncio.StreamReader) -> bytes:
    parts = []
    while size := int(await reader.readline(), 16):
        parts.append((await reader.readexactly(size + 2))[:-2])
    await reader.readline()
    return b"".join(parts)


def post(path: str, body: bytes, **headers: str) -> bytes:
    """A whole HTTP request."""
    given = {"host": "localhost", "content-type": "application/json", "content-length": str(len(body)), **headers}
    lines = [f"POST {path} HTTP/1.1", *(f"{name}: {value}" for name, value in given.items()), "", ""]
    return "\r\n".join(lines).encode() + body


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n".encode()


def poisson(rate: float, seconds: float, seed: int = 0) -> Iterator[float]:
    """Arrival times of a Poisson process, seconds from its start."""
    rng = random.Random(seed)  # noqa: S311 - arrivals, not secrets
    due = rng.expovariate(rate)
    while due < seconds:
        yield due
        due += rng.expovariate(rate)


def statuses(replies: Sequence[Reply]) -> Counter[int]:
    return Counter(reply.status for reply in replies)


def percentile(seconds: Sequence[float], share: float) -> float:
    """Of a sample, by the nearest rank; 0 of none."""
    ordered = sorted(seconds)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)] if ordered else 0.0
