"""One connection to a server of a small model, without sockets: what is sent, and what is written back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any
from uuid import uuid4

import numpy as np
import orjson
import uvicorn
from kserve.model_repository import ModelRepository
from prometheus_client import REGISTRY
from uvicorn.server import ServerState

from inference_services.admission import AdmissionLimit, Bounds
from inference_services.direct_protocol import Connections, DirectProtocol
from inference_services.direct_route import _ROUND_S, DirectRoute
from inference_services.draining import configure
from inference_services.metrics import CallMetrics
from inference_services.served import Served
from inference_services.v2 import Tensors
from inference_services.v2_model import Outputs, V2Model

App = Callable[[Any, Any, Any], Awaitable[None]]
BODY = orjson.dumps({"id": "a", "inputs": [{"name": "x", "datatype": "FP64", "shape": [1], "data": [1.5]}]})


class Echo(V2Model):
    """Answers what it is asked, when it may.

    Args:
        gate: what each answer waits for; without one it waits for nothing.
    """

    version = "7"

    def __init__(self, gate: asyncio.Event | None = None, *, eager: bool = True) -> None:
        super().__init__("echo")
        self.ready = True
        self.eager = eager  # type: ignore[misc]
        self._gate = gate

    async def answer(self, tensors: Tensors, wanted: Sequence[str]) -> Outputs:
        if self._gate is not None:
            await self._gate.wait()
        x = tensors.vector("x", "FP64")
        if np.isnan(x).any():
            raise KeyError("r1-00000000000000aa")
        return Outputs({"x": x}, self.version)


class Slow(Echo):
    """Needs more than what is served in one round of the loop."""

    async def answer(self, tensors: Tensors, wanted: Sequence[str]) -> Outputs:
        time.sleep(2 * _ROUND_S)
        return await super().answer(tensors, wanted)


class Wire(asyncio.Transport):
    """Keeps what is written, piece by piece."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.closed = False

    def write(self, data: Any) -> None:
        assert not self.closed
        self.written.append(bytes(data))

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def set_protocol(self, protocol: Any) -> None: ...


class Bench:
    """One connection to a server.

    Args:
        model: that it serves.
        app: behind the direct route.
        most: requests that are taken on at a time.
    """

    def __init__(self, model: V2Model, app: App, most: int = 64) -> None:
        models = ModelRepository()
        models.update(model)
        self.served = served = Served("test", uuid4().hex, "7", "")
        self.limit = AdmissionLimit(Bounds(1.0, most, most, most))
        self.route = DirectRoute(
            models=models,
            app=app,
            limit=self.limit,
            calls=CallMetrics(served),
            served=served,
            tokens=None,
        )
        self.state, self.shared, self.wire = ServerState(), Connections(), Wire()
        self._config = uvicorn.Config(app, log_config=None, lifespan="off")
        configure(self._config, partial(DirectProtocol, self.route, self.shared))
        self._config.load()
        self.protocol = self.connect(self.wire)

    def connect(self, wire: Wire) -> Any:
        """One more connection."""
        protocol: Any = self._config.http_protocol_class(config=self._config, server_state=self.state, app_state={})
        protocol.connection_made(wire)
        return protocol

    def counted(self, outcome: str) -> float | None:
        """Requests with this outcome."""
        labels = {**self.served.labels(), "protocol": "rest", "outcome": outcome}
        return REGISTRY.get_sample_value("fraud_requests_total", labels)

    async def send(self, *pieces: bytes) -> list[bytes]:
        """What is written once these bytes have come and nothing is left to do but to wait."""
        for piece in pieces:
            self.protocol.data_received(piece)
        for _ in range(20):
            await asyncio.sleep(0)
        return self.wire.written


def request(body: bytes = BODY, path: str = "/v2/models/echo/infer", version: str = "1.1", *more: str) -> bytes:
    lines = [f"POST {path} HTTP/{version}", "host: a", "content-type: application/json", f"content-length: {len(body)}"]
    return "\r\n".join([*lines, *more, "", ""]).encode() + body


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Tells what it was asked."""
    body = b""
    more = True
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    told = orjson.dumps(
        [scope["method"], scope["path"], scope["query_string"].decode(), len(scope["headers"]), body.decode()]
    )
    headers = [(b"content-length", b"%d" % len(told))]
    await send({"type": "http.response.start", "status": 202, "headers": headers})
    await send({"type": "http.response.body", "body": told})


def content(answer: bytes) -> Any:
    return orjson.loads(answer.partition(b"\r\n\r\n")[2])
