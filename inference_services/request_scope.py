"""Around every inference request over REST: its context, its counts, and its id in the answer's headers."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from time import perf_counter

from inference_services.asgi import Answer, Application, Header, Message, Receive, Send
from inference_services.metrics import CallMetrics, Outcome, outcome_of
from inference_services.request_context import (
    REQUEST_ID,
    TRACEPARENT,
    TRACESTATE,
    RequestContext,
    current,
    new_id,
    serving,
)
from inference_services.request_span import finish, span_attributes
from inference_services.served import Served
from inference_services.tracing import request_span

_READ = tuple(name.encode() for name in (REQUEST_ID, TRACEPARENT, TRACESTATE))
_REQUEST_ID = _READ[0]

log = logging.getLogger("fraud")


class RequestScope:
    """ASGI middleware for POST requests; the others (health, metadata, metrics) pass by.

    Args:
        app: the application behind it.
        calls: counts the requests.
        served: what their spans name.
    """

    def __init__(self, app: Application, calls: CallMetrics, served: Served) -> None:
        self._app = app
        self._calls = calls
        self._attributes = {**span_attributes(served), "http.request.method": "POST"}

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Serves one request; an error that nobody has caught is logged here, once, and answered with 500."""
        if scope["type"] != "http" or scope["method"] != "POST":
            return await self._app(scope, receive, send)
        begun = perf_counter()
        outcome: Outcome = "cancelled"
        self._calls.started()
        context = context_of(scope["headers"])
        with serving(context), request_span("POST", context, self._attributes) as span:
            try:
                outcome = await run(self._app, context, scope, receive, send)
            except Exception:
                outcome = "error"
                raise
            finally:
                finish(span, context, outcome)
                self._calls.ended("rest", outcome, perf_counter() - begun)
        return None


class Uncaught:
    """ASGI middleware inside of KServe's application: an error that no handler knows is logged, and answered with 500.

    FastAPI's own layers, around it, would answer with the error's text, which may quote the payload.

    Args:
        app: KServe's routes.
    """

    def __init__(self, app: Application) -> None:
        self._app = app

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Passes on an inference request; of the others no payload is known."""
        context = current()
        if context is None:
            return await self._app(scope, receive, send)
        started = False

        async def answer(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._app(scope, receive, answer)
        except Exception:
            if started:
                raise
            log.exception("a request failed")
            await failure(context.request_id).send(send)
        return None


async def run(app: Application, context: RequestContext, scope: Message, receive: Receive, send: Send) -> Outcome:
    """Lets an application answer a request in its context, and returns how that ended.

    Raises:
        Exception: the application failed in the middle of its answer; the log has it.
    """
    status = 0
    outcome: Outcome = "cancelled"

    async def answer(message: Message) -> None:
        nonlocal status, outcome
        if message["type"] == "http.response.start":
            status, headers = message["status"], message.get("headers", ())
            outcome = outcome_of(status, retry_after=status == 503 and any(k == b"retry-after" for k, _ in headers))
            # The id may have changed since the headers were read: the body has one too.
            message["headers"] = [*headers, (_REQUEST_ID, context.request_id.encode())]
        await send(message)

    try:
        await app(scope, receive, answer)
    except Exception:
        log.exception("a request failed")
        if status:
            raise
        await failure(context.request_id).send(answer)
    return outcome


def context_of(headers: Sequence[Header]) -> RequestContext:
    """The context of a request with these headers."""
    found = {name: value.decode("latin-1") for name, value in headers if name in _READ}
    if not found:
        return RequestContext("rest", new_id())
    return RequestContext.begin("rest", *(found.get(name, "") for name in _READ))


def failure(request_id: str) -> Answer:
    """The answer to a request that failed; what went wrong may hold something of the payload: it stays in the log."""
    return Answer.error(500, f"internal error; the service's log has it under request id {request_id}")
