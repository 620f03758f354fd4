"""Sends hostile requests to a service, and says which were not answered as a careful server answers them."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import grpc

from tests.hostile.grpc import HostileGrpc
from tests.hostile.rest import HostileRest
from tests.load import Client

INFER = "/inference.GRPCInferenceService/ModelInfer"
_AT_A_TIME = 4
_PATIENCE_S = 60.0
# 501 is KServe's answer to a verb that a model does not have, such as V1's explain.
_REST = {501, *range(200, 500)}
_GRPC = {
    grpc.StatusCode.OK,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
}
# grpcio itself answers so where the bytes are no message, before any code of ours or KServe's runs.
_NO_MESSAGE = (grpc.StatusCode.UNKNOWN, "DecodeError")


@dataclass
class Verdict:
    """What became of the requests.

    Attributes:
        answers: how many had which status.
        problems: those that were answered with an internal error, or not at all, with what was sent.
    """

    answers: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)

    def note(self, status: str, *, sound: bool, sent: object) -> None:
        self.answers[status] += 1
        if not sound:
            self.problems.append(f"{status} to {sent!r:.2000}")


async def call_rest(port: int, requests: HostileRest, n: int, verdict: Verdict) -> None:
    """n requests over REST."""
    client = Client(port)

    async def call() -> None:
        request = requests.make()
        try:
            async with asyncio.timeout(_PATIENCE_S):
                reply = await client.send(request.encode(), head=request.method == "HEAD")
            verdict.note(f"REST {reply.status}", sound=reply.status in _REST, sent=request)
        except TimeoutError:
            verdict.note("REST no answer", sound=False, sent=request)

    await _repeat(call, n)
    client.close()


async def call_grpc(port: int, requests: HostileGrpc, n: int, verdict: Verdict) -> None:
    """n requests over gRPC, a tenth of them no messages."""
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        send: Any = channel.unary_unary(INFER)
        number = 0

        async def call() -> None:
            nonlocal number
            number += 1
            noise = number % 10 == 0
            content = requests.noise() if noise else requests.make().SerializeToString()
            try:
                await send(content, timeout=_PATIENCE_S)
                code = grpc.StatusCode.OK
            except grpc.aio.AioRpcError as error:
                code = error.code()
                noise = noise and code is _NO_MESSAGE[0] and _NO_MESSAGE[1] in (error.details() or "")
                if noise:
                    return verdict.note("gRPC no message", sound=True, sent=content)
            return verdict.note(f"gRPC {code.name}", sound=code in _GRPC, sent=content)

        await _repeat(call, n)


async def _repeat(call: Callable[[], Awaitable[None]], n: int) -> None:
    left = n

    async def work() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            await call()

    await asyncio.gather(*(work() for _ in range(_AT_A_TIME)))
