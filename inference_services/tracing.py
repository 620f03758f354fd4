"""Spans of a request's stages and calls, in W3C trace context, sent over OTLP where the standard variables say so.

Off unless OTEL_EXPORTER_OTLP_ENDPOINT (or its form for traces) is set; then a caller's trace context is passed on as it
came. A request that is not sampled costs one span that records nothing. No attribute holds a payload or an id of
anybody: errors are named by their class alone.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import update_wrapper
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Protocol, TypeVar

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from inference_services.request_context import TRACEPARENT, TRACESTATE, current

if TYPE_CHECKING:
    from opentelemetry.util.types import AttributeValue

    from inference_services.request_context import RequestContext
    from inference_services.served import Served

P = ParamSpec("P")
R = TypeVar("R")


class Named(Protocol):
    """A client that knows which model it calls."""

    model: str


Client = TypeVar("Client", bound=Named)

_PROPAGATOR = TraceContextTextMapPropagator()
_NO_SPAN = nullcontext(trace.INVALID_SPAN)
_tracer: trace.Tracer | None = None


def start_tracing(served: Served) -> None:
    """Starts to send the spans of what is served, if the environment asks for it.

    Raises:
        BadSettings: a variable of OpenTelemetry's cannot be used.
    """
    wanted = any(os.environ.get(f"OTEL_EXPORTER_OTLP_{form}ENDPOINT") for form in ("", "TRACES_"))
    if not wanted or os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return
    # The SDK is loaded by those alone who use it.
    from inference_services.trace_export import exporting_tracer  # noqa: PLC0415

    use_tracer(exporting_tracer(served))


def use_tracer(tracer: trace.Tracer | None) -> None:
    """Makes the spans with this tracer, with none when None."""
    global _tracer  # noqa: PLW0603 - one for the process, as in OpenTelemetry
    _tracer = tracer


def request_span(
    name: str, context: RequestContext, attributes: Mapping[str, AttributeValue]
) -> AbstractContextManager[Span]:
    """The span of a request, in the caller's trace if it has one."""
    if _tracer is None:
        return _NO_SPAN
    carried = {TRACEPARENT: context.traceparent, TRACESTATE: context.tracestate} if context.traceparent else {}
    return _recorded(_tracer, name, SpanKind.SERVER, attributes, _PROPAGATOR.extract(carried))


def span(name: str, kind: SpanKind = SpanKind.INTERNAL) -> AbstractContextManager[Span]:
    """A span in the one that is current; nothing where that is not recorded, or there is none."""
    if _tracer is None or not trace.get_current_span().is_recording():
        return _NO_SPAN
    return _recorded(_tracer, name, kind)


def client_call(
    method: Callable[Concatenate[Client, P], Awaitable[R]],
) -> Callable[Concatenate[Client, P], Coroutine[Any, Any, R]]:
    """Puts a span around each call of a client's method."""

    async def traced(self: Client, /, *args: P.args, **kwargs: P.kwargs) -> R:
        with span(f"POST {self.model}", SpanKind.CLIENT):
            return await method(self, *args, **kwargs)

    update_wrapper(traced, method)
    return traced


def recording() -> bool:
    """Whether attributes of the current span are of any use."""
    return _tracer is not None and trace.get_current_span().is_recording()


def annotate(attributes: Mapping[str, AttributeValue]) -> None:
    """Adds attributes to the current span."""
    trace.get_current_span().set_attributes(attributes)


def trace_headers() -> dict[str, str]:
    """The trace context for a call that is made now."""
    if _tracer is None:
        context = current()
        found = {} if context is None else {TRACEPARENT: context.traceparent, TRACESTATE: context.tracestate}
        return {name: value for name, value in found.items() if value}
    headers: dict[str, str] = {}
    _PROPAGATOR.inject(headers)
    return headers


def trace_id() -> str:
    """The trace that is current, 32 hex digits, empty without one."""
    found = trace.get_current_span().get_span_context()
    if found.is_valid:
        return trace.format_trace_id(found.trace_id)
    context = current()
    return context.trace_id if context is not None else ""


@contextmanager
def _recorded(
    tracer: trace.Tracer,
    name: str,
    kind: SpanKind,
    attributes: Mapping[str, AttributeValue] | None = None,
    parent: Context | None = None,
) -> Iterator[Span]:
    # OpenTelemetry would record an error's message, which may quote the payload.
    with tracer.start_as_current_span(
        name, parent, kind, attributes, record_exception=False, set_status_on_exception=False
    ) as begun:
        try:
            yield begun
        except BaseException as error:
            begun.set_status(Status(StatusCode.ERROR, type(error).__name__))
            raise
