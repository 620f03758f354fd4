"""What the span of a request says, whichever protocol it came by."""

from __future__ import annotations

from opentelemetry.trace import Span, Status, StatusCode

from inference_services.metrics import Outcome
from inference_services.request_context import RequestContext
from inference_services.served import Served

_OURS = frozenset({"error", "unavailable", "cancelled"})


def span_attributes(served: Served) -> dict[str, str]:
    """What is known before the request comes."""
    return {f"fraud.{name}": value for name, value in served.labels().items()}


def finish(span: Span, context: RequestContext, outcome: Outcome) -> None:
    """What is known when it has been answered; a caller's mistake is no error of the service."""
    if not span.is_recording():
        return
    span.set_attributes({"fraud.request_id": context.request_id, "fraud.outcome": outcome})
    if outcome in _OURS:
        span.set_status(Status(StatusCode.ERROR, outcome))
