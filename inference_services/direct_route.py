"""Answers plain V2 REST inference requests without KServe's FastAPI application, and without ASGI.

KServe's own route validates every tensor with pydantic and copies the answer twice, which costs more than the models
do; ASGI costs a task, a handful of messages and two turns of the event loop. This one decodes with orjson, asks the
model, and observes the same histograms. What is not plain (`v2_rest.decode`), or not valid, goes on to the application
unread, so that every refusal is KServe's own. Who calls, how many at a time, and what is counted, is as in the ASGI
middlewares.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from time import monotonic, perf_counter
from typing import Protocol

from kserve.metrics import POST_HIST_TIME, PRE_HIST_TIME, PREDICT_HIST_TIME
from kserve.model_repository import ModelRepository
from prometheus_client import Histogram

from inference_services import eager
from inference_services.admission import AdmissionLimit
from inference_services.asgi import Answer, Application, Header, Message, Receive, Send
from inference_services.authentication import refusal
from inference_services.direct_form import Form, form_of
from inference_services.errors import InvalidRequest
from inference_services.metrics import CallMetrics, Outcome
from inference_services.request_context import RequestContext, adopt, serving
from inference_services.request_scope import context_of, failure, run
from inference_services.request_span import finish, span_attributes
from inference_services.served import Served
from inference_services.shedding import OVERLOADED
from inference_services.tokens import TokenFile
from inference_services.tracing import request_span
from inference_services.v2 import Tensors
from inference_services.v2_model import V2Model
from inference_services.v2_rest import decode, encode

# How long requests are served in one round of the event loop. Between two rounds it reads what has come and writes what
# is answered: without a bound, all that was read in a round is served in the next, for as long as the limit allows, and
# who comes meanwhile waits in the socket for the same time, seen by nobody.
_ROUND_S = 0.001

log = logging.getLogger("fraud")


class Exchange(Protocol):
    """A plain request that has come whole, and the way back to its caller."""

    @property
    def form(self) -> Form:
        """How it is written."""

    @property
    def headers(self) -> Sequence[Header]:
        """Of the request, their names in lower case."""

    @property
    def body(self) -> bytes:
        """Of the request."""

    @property
    def tasks(self) -> set[asyncio.Task[None]]:
        """Those that the server waits for before it ends."""

    def respond(self, answer: Answer, request_id: str) -> None:
        """Writes the answer."""

    def asgi(self) -> tuple[Message, Receive, Send]:
        """The same request for an ASGI application, which answers it."""

    def abort(self) -> None:
        """Closes the connection: the answer cannot be written whole."""


@dataclass(frozen=True, slots=True)
class _Taken:
    """A request that was taken on."""

    exchange: Exchange
    context: RequestContext
    begun: float  # on the clock of `perf_counter`
    admitted: float  # on the clock of `monotonic`


class DirectRoute:
    """The route.

    Args:
        models: KServe's repository; those in it that are no `V2Model` are left to the application.
        app: answers what is not plain, or not valid, of the requests that were taken on.
        limit: how many those are.
        calls: counts the requests.
        served: what their spans name.
        tokens: of which a caller must send one; None when callers are not asked.
    """

    def __init__(
        self,
        *,
        models: ModelRepository,
        app: Application,
        limit: AdmissionLimit,
        calls: CallMetrics,
        served: Served,
        tokens: TokenFile | None,
    ) -> None:
        self._models = models
        self._app = app
        self._limit = limit
        self._calls = calls
        self._attributes = {**span_attributes(served), "http.request.method": "POST"}
        self._tokens = tokens
        self._waiting: deque[_Taken] = deque()

    def form(self, url: bytes, headers: Sequence[Header]) -> Form | None:
        """The form of a POST request; None when it is for the application, as one that has no valid token."""
        form = form_of(url, headers, self._models)
        if form is None or (self._tokens is not None and refusal(self._tokens, headers) is not None):
            return None
        return form

    def take(self, exchange: Exchange) -> None:
        """Takes a request on, or refuses it; either is answered in the event loop's next turn at the earliest."""
        begun = perf_counter()
        self._calls.started()
        context = context_of(exchange.headers)
        if not self._limit.admit():
            # As late as any answer: what the parser holds behind this request must find it waiting.
            asyncio.get_running_loop().call_soon(self._refuse, exchange, context, begun)
            return
        if not self._waiting:
            # All who came at the same time are counted before one is served.
            asyncio.get_running_loop().call_soon(self._serve_some)
        self._waiting.append(_Taken(exchange, context, begun, monotonic()))

    def _refuse(self, exchange: Exchange, context: RequestContext, begun: float) -> None:
        with serving(context), request_span("POST", context, self._attributes) as span:
            exchange.respond(OVERLOADED, context.request_id)
            finish(span, context, "shed")
        self._calls.ended("rest", "shed", perf_counter() - begun)

    def _serve_some(self) -> None:
        """Serves in the order of coming, for one round of the loop: what is left goes on in the next one."""
        enough = monotonic() + _ROUND_S
        try:
            while self._waiting:
                taken = self._waiting.popleft()
                eager.start(self._serve(taken), taken.exchange.tasks)
                if monotonic() >= enough:
                    break
        finally:
            if self._waiting:  # the round is over, or one has failed, which is no reason to leave the others
                asyncio.get_running_loop().call_soon(self._serve_some)

    async def _serve(self, taken: _Taken) -> None:
        outcome: Outcome = "cancelled"
        with (
            self._limit.serving(taken.admitted),
            serving(taken.context) as context,
            request_span("POST", context, self._attributes) as span,
        ):
            try:
                outcome = await self._answer(taken.exchange, context)
            finally:
                finish(span, context, outcome)
                self._calls.ended("rest", outcome, perf_counter() - taken.begun)

    async def _answer(self, exchange: Exchange, context: RequestContext) -> Outcome:
        model = exchange.form.model
        if not model.eager:
            await asyncio.sleep(0)  # into a task
        try:
            content = await _content(model, exchange)
        except (Exception, asyncio.CancelledError) as error:
            log.exception("a request failed")
            exchange.respond(failure(context.request_id), context.request_id)
            if isinstance(error, asyncio.CancelledError):  # the server ends, and waits no longer
                raise
            return "error"
        if content is not None:
            exchange.respond(Answer(200, content), context.request_id)
            return "ok"
        # FastAPI looks for a task.
        await asyncio.sleep(0)
        try:
            return await run(self._app, context, *exchange.asgi())
        except asyncio.CancelledError:
            exchange.abort()
            raise
        except Exception:  # in the middle of the answer; `run` has told
            exchange.abort()
            return "error"


async def _content(model: V2Model, exchange: Exchange) -> bytes | None:
    """The answer; None for a request that is not plain or not valid, or comes too early."""
    if not await model.healthy():
        return None
    request = decode(exchange.body, exchange.form.header_length)
    if request is None:
        return None
    answer_id = adopt(request.id)
    started = perf_counter()
    try:
        outputs = await model.answer(Tensors(request.tensors), request.wanted)
        selected = outputs.selected(request.wanted)
    except InvalidRequest:
        return None
    except Exception:
        _observe(model.name, perf_counter() - started)
        raise
    _observe(model.name, perf_counter() - started)
    _series(POST_HIST_TIME, model.name).observe(0.0)
    model.answered(outputs)
    return encode(answer_id, model.name, outputs, selected)


def _observe(model: str, seconds: float) -> None:
    """What KServe observes of a model without a `preprocess` of its own."""
    _series(PRE_HIST_TIME, model).observe(0.0)
    _series(PREDICT_HIST_TIME, model).observe(seconds)


@cache
def _series(histogram: Histogram, model: str) -> Histogram:
    """Found once for each model: looking a series up by its label costs more than counting."""
    return histogram.labels(model)
