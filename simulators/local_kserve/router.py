"""What stands before the revisions: one address per service, each request sent on to the revision it falls to.

Bodies pass as bytes, unread. The address of a service stays the same for the life of the server, whatever is
created, replaced or deleted behind it.
"""

from __future__ import annotations

import asyncio
import math
import socket
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import aiohttp
import grpc
from aiohttp import web

from simulators.local_kserve.revision import Revision, State
from simulators.local_kserve.traffic import Split, Target

LARGEST_BODY = 64 * 2**20  # bytes
_HOP_BY_HOP = {
    "connection",
    "content-length",
    "host",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
}
_UNLIMITED = [
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.so_reuseport", 0),
]


class Unavailable(Exception):
    """No revision can take the request."""


class Router:
    """Splits one component's requests between its revisions, and counts the inference requests."""

    def __init__(self, name: str, revisions: Mapping[str, Revision], requests: Counter[str]) -> None:
        self.name, self._revisions, self._requests = name, revisions, requests
        self.targets: tuple[Target, ...] = ()
        self.route(())

    def route(self, targets: tuple[Target, ...]) -> None:
        """From now on split by `targets`."""
        self.targets = targets
        # Health checks take a sequence of their own, so that they cannot shift the shares of what is counted.
        self._splits = {True: Split(targets), False: Split(targets)}

    @contextmanager
    def revision(self, *, inference: bool) -> Iterator[Revision]:
        """The revision that the next request falls to, kept from being drained while the request is in it."""
        name = self._splits[inference].choose()
        if name is None:
            raise Unavailable(f"{self.name} has no ready revision")
        chosen = self._revisions[name]
        if chosen.state is State.RESTARTING:
            raise Unavailable(f"{name} crashed and is being restarted")
        if inference:
            self._requests[name] += 1
        chosen.in_flight += 1
        try:
            yield chosen
        finally:
            chosen.in_flight -= 1


class Door:
    """One service's HTTP and gRPC listeners on free ports of the loopback interface."""

    def __init__(self, label: str, session: aiohttp.ClientSession) -> None:
        self.label = label
        self.router: Router | None = None
        self._session = session
        self._channels: dict[int, grpc.aio.Channel] = {}
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.http_port: int = self._socket.getsockname()[1]
        app = web.Application(client_max_size=LARGEST_BODY)
        app.router.add_route("*", "/{path:.*}", self._http)
        self._runner = web.AppRunner(app, access_log=None)
        self._grpc = grpc.aio.server(options=_UNLIMITED)
        self._grpc.add_generic_rpc_handlers((_AnyMethod(self),))
        self.grpc_port: int = self._grpc.add_insecure_port("127.0.0.1:0")
        self._opened = asyncio.create_task(self._open())

    async def _open(self) -> None:
        await self._runner.setup()
        await web.SockSite(self._runner, self._socket).start()
        await self._grpc.start()

    async def close(self) -> None:
        """Close the listeners."""
        await self._opened
        await self._runner.cleanup()
        await self._grpc.stop(grace=1)
        for channel in self._channels.values():
            await channel.close()

    def _revision(self, inference: bool) -> Any:
        if self.router is None:
            raise Unavailable(f"there is no InferenceService behind {self.label}")
        return self.router.revision(inference=inference)

    async def _http(self, request: web.Request) -> web.Response:
        body = await request.read()
        headers = [(k, v) for k, v in request.headers.items() if k.lower() not in _HOP_BY_HOP]
        try:
            with self._revision(inference=request.method == "POST") as revision:
                url = f"http://127.0.0.1:{revision.ports[0]}{request.raw_path}"
                logged = revision.payload_log and revision.payload_log.exchange(request.headers)
                if logged:
                    logged.request(body)
                async with self._session.request(
                    request.method,
                    url,
                    data=body or None,
                    headers=headers,
                    allow_redirects=False,
                    timeout=aiohttp.ClientTimeout(total=revision.plan.timeout_s),
                ) as answer:
                    kept = [(k, v) for k, v in answer.headers.items() if k.lower() not in _HOP_BY_HOP]
                    content = await answer.read()
                    if logged:
                        logged.answer(answer.status, content)
                    return web.Response(status=answer.status, body=content, headers=dict(kept))
        except Unavailable as error:
            return web.json_response({"error": str(error)}, status=503)
        except TimeoutError:
            return web.json_response({"error": "no answer within the component's timeout"}, status=504)
        except aiohttp.ClientError as error:
            return web.json_response({"error": f"the revision did not answer: {error!r}"}, status=502)

    async def forward(self, method: str, message: bytes, context: Any) -> bytes:
        """One unary gRPC call, passed on with its metadata and deadline."""
        try:
            with self._revision(inference=method.endswith("/ModelInfer")) as revision:
                call = self._channel(revision.ports[1]).unary_unary(method)(
                    message,
                    metadata=[
                        (k, v)
                        for k, v in context.invocation_metadata() or ()
                        if not k.startswith((":", "grpc-", "user-agent"))
                    ],
                    timeout=min(context.time_remaining() or math.inf, revision.plan.timeout_s),
                )
                answer: bytes = await call
                return answer
        except Unavailable as error:
            return await _abort(context, grpc.StatusCode.UNAVAILABLE, str(error))
        except grpc.aio.AioRpcError as error:
            return await _abort(context, error.code(), error.details() or "")

    def _channel(self, port: int) -> grpc.aio.Channel:
        if port not in self._channels:
            self._channels[port] = grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=_UNLIMITED)
        return self._channels[port]


class _AnyMethod(grpc.GenericRpcHandler):
    def __init__(self, door: Door) -> None:
        self._door = door

    def service(self, details: Any) -> Any:
        return grpc.unary_unary_rpc_method_handler(partial(self._door.forward, details.method))


async def _abort(context: Any, code: grpc.StatusCode, details: str) -> bytes:
    await context.abort(code, details)
    raise AssertionError("abort raises")


def open_session() -> aiohttp.ClientSession:
    """The one HTTP client of all doors."""
    # kserve's server drops idle connections after 65 s: drop ours first, or a request meets a closed one.
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=30)
    return aiohttp.ClientSession(connector=connector, auto_decompress=False)
