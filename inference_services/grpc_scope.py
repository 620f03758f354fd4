"""Around every inference request over gRPC: its context, its counts, and its id in the trailing metadata."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from time import perf_counter
from typing import Any, NamedTuple

import grpc
from grpc.aio import ServerInterceptor
from kserve.protocol.grpc.grpc_predict_v2_pb2 import ModelInferRequest

from inference_services.metrics import CallMetrics, Outcome
from inference_services.request_context import REQUEST_ID, TRACEPARENT, TRACESTATE, RequestContext, adopt, serving
from inference_services.request_span import finish, span_attributes
from inference_services.served import Served
from inference_services.tracing import request_span

INFER = "/inference.GRPCInferenceService/ModelInfer"

_OUTCOMES: dict[grpc.StatusCode, Outcome] = {
    grpc.StatusCode.INVALID_ARGUMENT: "invalid",
    grpc.StatusCode.UNAUTHENTICATED: "unauthenticated",
    grpc.StatusCode.NOT_FOUND: "not_found",
    grpc.StatusCode.UNIMPLEMENTED: "not_implemented",
    grpc.StatusCode.RESOURCE_EXHAUSTED: "shed",
    grpc.StatusCode.UNAVAILABLE: "unavailable",
    grpc.StatusCode.CANCELLED: "cancelled",
    grpc.StatusCode.DEADLINE_EXCEEDED: "cancelled",
}
_BY_NUMBER = {code.value[0]: outcome for code, outcome in _OUTCOMES.items()}


class Metadatum(NamedTuple):
    """One pair; KServe reads the names, and gRPC the tuple."""

    key: str
    value: str


class RequestScopeInterceptor(ServerInterceptor):
    """The counterpart of `RequestScope`, outermost of the interceptors.

    Args:
        calls: counts the requests.
        served: what their spans name.
    """

    def __init__(self, calls: CallMetrics, served: Served) -> None:
        self._calls = calls
        self._attributes = {**span_attributes(served), "rpc.system": "grpc", "rpc.method": INFER[1:]}

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler:
        """Wraps the handler of an inference call, and leaves the others."""
        handler = await continuation(handler_call_details)
        if handler_call_details.method != INFER:
            return handler

        async def serve(request: ModelInferRequest, context: grpc.aio.ServicerContext) -> Any:
            return await self._serve(handler.unary_unary, request, context)

        return grpc.unary_unary_rpc_method_handler(serve, handler.request_deserializer, handler.response_serializer)

    async def _serve(self, handle: Any, request: ModelInferRequest, context: grpc.aio.ServicerContext) -> Any:
        begun = perf_counter()
        self._calls.started()
        outcome: Outcome = "cancelled"
        called = _context(context)
        with serving(called), request_span(INFER[1:], called, self._attributes) as span:
            adopt(request.id)
            # Trailing, because it goes with an error too.
            context.set_trailing_metadata((Metadatum(REQUEST_ID, called.request_id),))
            try:
                answer = await handle(request, context)
                outcome = "ok"
                return answer
            except asyncio.CancelledError:
                raise
            except BaseException:
                outcome = outcome_of(context.code())
                raise
            finally:
                finish(span, called, outcome)
                self._calls.ended("grpc", outcome, perf_counter() - begun)


def outcome_of(code: grpc.StatusCode | int | None) -> Outcome:
    """What a status code says of a request that failed; None where nobody has set one."""
    number = code.value[0] if isinstance(code, grpc.StatusCode) else code
    return "error" if number is None else _BY_NUMBER.get(number, "error")


def _context(context: grpc.aio.ServicerContext) -> RequestContext:
    found = {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}
    return RequestContext.begin(
        "grpc", found.get(REQUEST_ID, ""), found.get(TRACEPARENT, ""), found.get(TRACESTATE, "")
    )
