"""Answers plain V2 REST inference requests in front of KServe's FastAPI application.

KServe's own route validates every tensor with pydantic and copies the answer twice, which costs more than the models
do. This one decodes with orjson, asks the model, and observes the same histograms. What is not plain
(`v2_rest.decode`), or not valid, goes on to the application unread, so that every refusal is KServe's own.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from functools import cache
from time import perf_counter
from typing import Any

from kserve.metrics import POST_HIST_TIME, PRE_HIST_TIME, PREDICT_HIST_TIME
from kserve.model_repository import ModelRepository
from prometheus_client import Histogram

from inference_services.errors import InvalidRequest
from inference_services.request_context import adopt
from inference_services.v2 import Tensors
from inference_services.v2_model import V2Model
from inference_services.v2_rest import HEADER_LENGTH, RestRequest, decode, encode

_PREFIX, _SUFFIX = "/v2/models/", "/infer"
_HEADER_LENGTH = HEADER_LENGTH.encode()
_JSON, _BINARY = b"application/json", b"application/octet-stream"
_JSON_KINDS = frozenset({_JSON, b"application/json; charset=utf-8"})

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Message, Receive, Send], Awaitable[None]]
Headers = Sequence[tuple[bytes, bytes]]


class DirectInfer:
    """ASGI middleware.

    Args:
        app: the application behind it.
        models: KServe's repository; those in it that are no `V2Model` are left to the application.
    """

    def __init__(self, app: Application, models: ModelRepository) -> None:
        self._app = app
        self._models = models

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answers, or passes on what is not a plain inference request for a model that is ready."""
        model = self._model(scope)
        plain, header_length = _form(scope["headers"]) if model is not None else (False, None)
        if model is None or not plain or not await model.healthy():
            return await self._app(scope, receive, send)
        body = await _body(receive)
        if body is None:
            return None
        request = decode(body, header_length)
        content = await _answer(model, request) if request is not None else None
        if content is None:
            return await self._app(scope, _again(body, receive), send)
        headers = [(b"content-length", b"%d" % len(content)), (b"content-type", _JSON)]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": content})
        return None

    def _model(self, scope: Message) -> V2Model | None:
        if scope["type"] != "http" or scope["method"] != "POST":
            return None
        path: str = scope["path"]
        if not (path.startswith(_PREFIX) and path.endswith(_SUFFIX)):
            return None
        model = self._models.get_model(path[len(_PREFIX) : -len(_SUFFIX)])
        return model if isinstance(model, V2Model) else None


async def _answer(model: V2Model, request: RestRequest) -> bytes | None:
    """The answer; None for a request that is not valid, which KServe's route refuses in its own words."""
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


def _form(headers: Headers) -> tuple[bool, int | None]:
    """Whether the headers are those of a plain request, and the length of its JSON where binary tensors follow."""
    kind, length = b"", None
    for name, value in headers:
        if name == b"content-type":
            kind = value
        elif name == _HEADER_LENGTH:
            length = value
        elif name.startswith(b"ce-"):  # a CloudEvent is answered with one
            return False, None
    if length is None:
        return kind in _JSON_KINDS, None
    return (True, int(length)) if kind == _BINARY and length.isdigit() else (False, None)


async def _body(receive: Receive) -> bytes | None:
    """The whole body; None when the caller has gone."""
    message = await receive()
    parts = [message.get("body", b"")]
    while message["type"] == "http.request" and message.get("more_body", False):
        message = await receive()
        parts.append(message.get("body", b""))
    if message["type"] != "http.request":
        return None
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _again(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives the body once more."""
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again
