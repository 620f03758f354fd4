"""Refuses inference requests beyond what the process answers in time: 429 with `Retry-After`, RESOURCE_EXHAUSTED.

Only inference is refused: health, readiness, metadata and metrics pass. `fraud_requests_total` counts it as `shed`.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
from grpc.aio import ServerInterceptor
from prometheus_client import Gauge

from inference_services.admission import AdmissionLimit
from inference_services.asgi import Answer, Application, Message, Receive, Send
from inference_services.grpc_scope import INFER

LIMIT = Gauge("fraud_requests_in_flight_limit", "Inference requests that may be in flight now; more are refused.")

RETRY_AFTER_S = 1
_INFERENCE = re.compile(r"/v2/models/[^/]+(/versions/[^/]+)?/(infer|generate\w*)|/v1/models/[^/]+:\w+")
_REASON = "the server is overloaded; try again later"
OVERLOADED = Answer.error(429, _REASON, (b"retry-after", b"%d" % RETRY_AFTER_S))


def show(limit: AdmissionLimit) -> None:
    """Lets the metrics show the limit."""
    LIMIT.set_function(lambda: limit.limit)


class SheddingMiddleware:
    """For REST, as ASGI middleware.

    Args:
        app: the application behind it.
        limit: the process's.
    """

    def __init__(self, app: Application, limit: AdmissionLimit) -> None:
        self._app = app
        self._limit = limit

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Passes on, or refuses."""
        if scope["type"] != "http" or scope["method"] != "POST" or not _INFERENCE.fullmatch(scope["path"]):
            return await self._app(scope, receive, send)
        if not self._limit.admit():
            return await OVERLOADED.send(send)
        return await self._limit.serve(lambda: self._app(scope, receive, send))


class SheddingInterceptor(ServerInterceptor):
    """For gRPC.

    RESOURCE_EXHAUSTED, because clients, KServe's among them, repeat a call that was UNAVAILABLE at once.

    Args:
        limit: the process's.
    """

    def __init__(self, limit: AdmissionLimit) -> None:
        self._limit = limit

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler:
        """Wraps the handler of an inference call, and leaves the others."""
        handler = await continuation(handler_call_details)
        if handler is None or handler_call_details.method != INFER:
            return handler

        async def serve(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
            if not self._limit.admit():
                retry = (("retry-after", str(RETRY_AFTER_S)), ("grpc-retry-pushback-ms", str(RETRY_AFTER_S * 1000)))
                await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, _REASON, (*context.trailing_metadata(), *retry))
            return await self._limit.serve(lambda: handler.unary_unary(request, context))

        return grpc.unary_unary_rpc_method_handler(serve, handler.request_deserializer, handler.response_serializer)
