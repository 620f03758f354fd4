"""A TCP proxy before one part, which passes bytes on, or holds the part's answers back, or makes noise of them."""

from __future__ import annotations

import asyncio
import contextlib
import random
from typing import Literal

Mode = Literal["pass", "slow", "corrupt"]
# Far beyond every deadline of a latency budget of 50 ms, and within what a test waits for.
SLOW_S = 1.0
_CHUNK = 2**16


class Proxy:
    """Listens on a loopback port of its own; the mode may change at any time and holds for open connections too.

    Args:
        target: the part's port on loopback; may be set later.
    """

    def __init__(self, target: int = 0) -> None:
        self.target = target
        self.mode: Mode = "pass"
        self.port = 0
        self._server: asyncio.Server | None = None
        self._noise = random.Random(0)  # noqa: S311 - noise, not secrets
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        with contextlib.suppress(OSError, asyncio.CancelledError):
            try:
                there, there_writer = await asyncio.open_connection("127.0.0.1", self.target)
            except OSError:
                writer.transport.abort()  # as a port that nobody listens on
                return
            pipes = (self._pipe(reader, there_writer, answers=False), self._pipe(there, writer, answers=True))
            ways = [asyncio.create_task(pipe) for pipe in pipes]
            try:
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for way in ways:
                    way.cancel()
                for side in (writer, there_writer):
                    side.transport.abort()

    async def _pipe(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, answers: bool) -> None:
        with contextlib.suppress(OSError):
            while content := await source.read(_CHUNK):
                if answers and self.mode == "slow":
                    await asyncio.sleep(SLOW_S)
                if answers and self.mode == "corrupt":
                    # Neither ASCII nor RESP nor HTTP: what could be taken for a sound answer proves nothing.
                    content = bytes(byte | 0x80 for byte in self._noise.randbytes(len(content)))
                sink.write(content)
                await sink.drain()
