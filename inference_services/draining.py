"""KServe's server with an ordered end: on SIGTERM not ready, then closed to new requests, then what it took, then gone.

KServe 0.21 takes its models away at the signal, while requests still come, and ends the engine, ours delivers the
decisions, before the last gRPC call is answered.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from typing import Any

from kserve import ModelServer

from inference_services.direct_infer import Application, Message, Receive, Send

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
_POLL_S = 0.02

log = logging.getLogger("fraud")


class Drain:
    """Whether the process is about to end."""

    def __init__(self) -> None:
        self.begun = False


class DrainingMiddleware:
    """Asks callers to give up their connections while the process drains.

    Args:
        app: the application behind it.
        drain: tells whether it does.
    """

    def __init__(self, app: Application, drain: Drain) -> None:
        self._app = app
        self._drain = drain

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Passes on; an answer that is sent while the process drains closes its connection."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)

        async def closing(message: Message) -> None:
            if self._drain.begun and message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), (b"connection", b"close")]
            await send(message)

        return await self._app(scope, receive, closing)


class DrainingServer(ModelServer):
    """A ModelServer that loses no request when it is told to stop.

    Args:
        drain: begun at the signal; readiness must look at it.
        drain_s: how long it answers on while callers see that it is not ready.
        grace_s: the longest that a request may take to end after that.
        **options: of ModelServer.
    """

    def __init__(self, drain: Drain, drain_s: float, grace_s: float, **options: Any) -> None:
        super().__init__(grace_period=max(1, round(grace_s)), **options)
        self._drain = drain
        self._drain_s = drain_s
        self._signalled = asyncio.Event()

    def register_signal_handler(self) -> None:
        """Leaves the signals to `_serve`: uvicorn would close its port at once."""
        self._rest_server._server.capture_signals = contextlib.nullcontext

    async def _serve(self) -> None:
        loop = asyncio.get_running_loop()
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
        await asyncio.sleep(self._drain_s)
        uvicorn = self._rest_server._server
        uvicorn.should_exit = True
        if self._grpc_server is not None:
            await self._grpc_server.stop()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.grace_period):
                while uvicorn.server_state.connections or uvicorn.server_state.tasks:
                    await asyncio.sleep(_POLL_S)
        for name in list(self.registered_models.get_models()):
            self.registered_models.unload(name)
