"""KServe's server with an ordered end: on SIGTERM not ready, then closed to new requests, then what it took, then gone.

KServe 0.21 takes its models away at the signal, while requests still come, and ends the engine, ours delivers the
decisions, before the last gRPC call is answered.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from collections.abc import Callable
from typing import Any

from kserve import ModelServer
from uvicorn import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from inference_services.garbage import settle

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
_POLL_S = 0.02
_CLOSING = (b"connection", b"close")

log = logging.getLogger("fraud")


class Drain:
    """Whether the process is about to end."""

    def __init__(self) -> None:
        self.begun = False


def configure(config: Config, http: Callable[..., asyncio.Protocol]) -> None:
    """Says how uvicorn is to serve, with this protocol, before the configuration is loaded."""
    config.http = http  # type: ignore[assignment]  # whatever makes a protocol does for its class
    # Nothing here asks who the caller is, nor by which scheme it came.
    config.proxy_headers = False
    # Uvicorn would leave a POST that asks for a websocket without any answer.
    config.ws = "none"
    # A request that waited behind another begins where that one's answer was written, and must not inherit its id.
    config.reset_contextvars = True


class DrainingServer(ModelServer):
    """A ModelServer that loses no request when it is told to stop.

    Args:
        drain: begun at the signal; readiness must look at it.
        drain_s: how long it answers on while callers see that it is not ready.
        grace_s: the longest that a request may take to end after that.
        **options: of ModelServer.

    Attributes:
        http: makes the HTTP protocol of each connection; uvicorn's own unless another is put here.
    """

    def __init__(self, drain: Drain, drain_s: float, grace_s: float, **options: Any) -> None:
        super().__init__(grace_period=max(1, round(grace_s)), **options)
        self._drain = drain
        self._drain_s = drain_s
        self.http: Callable[..., asyncio.Protocol] = HttpToolsProtocol
        self._signalled = asyncio.Event()

    def register_signal_handler(self) -> None:
        """Leaves the signals to `_serve`: uvicorn would close its port at once.

        KServe calls this when uvicorn is made and not loaded yet: the moment to say how it is to serve.
        """
        self._rest_server._server.capture_signals = contextlib.nullcontext
        configure(self._rest_server.config, self.http)

    async def _serve(self) -> None:
        loop = asyncio.get_running_loop()
        settle()
        for number in _SIGNALS:
            loop.add_signal_handler(number, self._signalled.set)
        serving = asyncio.gather(*self.servers)
        ending = asyncio.create_task(self._end())
        try:
            await serving
        finally:
            ending.cancel()

    async def _end(self) -> None:
        await self._signalled.wait()
        self._drain.begun = True
        log.warning("stopping: not ready, and answering for %g s more", self._drain_s)
        uvicorn = self._rest_server._server
        # Asks callers to give up their connections. Uvicorn adds these to each answer, and makes them anew each second.
        uvicorn.server_state.default_headers.append(_CLOSING)
        uvicorn.config.encoded_headers.append(_CLOSING)
        await asyncio.sleep(self._drain_s)
        uvicorn.should_exit = True
        if self._grpc_server is not None:
            await self._grpc_server.stop()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.grace_period):
                while uvicorn.server_state.connections or uvicorn.server_state.tasks:
                    await asyncio.sleep(_POLL_S)
        for name in list(self.registered_models.get_models()):
            self.registered_models.unload(name)
