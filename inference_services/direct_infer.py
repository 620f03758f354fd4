"""Answers JSON inference requests in front of KServe's FastAPI application.

KServe's own route validates every tensor with pydantic, which for a hundred named tensors costs milliseconds; this one
decodes with orjson and leaves the checks to `v2.Tensors`. Everything else passes through to the application.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import orjson
from kserve.errors import InvalidInput, ModelNotFound, ModelNotReady
from kserve.protocol.dataplane import DataPlane

HEADER_LENGTH = "inference-header-content-length"
_INFER = re.compile(r"/v2/models/([^/]+)/infer")

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Message, Receive, Send], Awaitable[None]]

log = logging.getLogger("fraud")


class DirectInfer:
    """ASGI middleware.

    Args:
        app: the application behind it.
        dataplane: KServe's data plane, which knows the models.
    """

    def __init__(self, app: Application, dataplane: DataPlane) -> None:
        self._app = app
        self._dataplane = dataplane

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answers, or passes on what is not a JSON inference request."""
        match = _INFER.fullmatch(scope["path"]) if scope["type"] == "http" and scope["method"] == "POST" else None
        if match is None:
            return await self._app(scope, receive, send)
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        if HEADER_LENGTH in headers:
            return await self._app(scope, receive, send)
        status, content, header_length = await self._answer(match[1], await _body(receive), headers)
        kind = b"application/json" if header_length is None else b"application/octet-stream"
        answer_headers = [(b"content-type", kind), (b"content-length", b"%d" % len(content))]
        if header_length is not None:
            answer_headers.append((HEADER_LENGTH.encode(), b"%d" % header_length))
        await send({"type": "http.response.start", "status": status, "headers": answer_headers})
        await send({"type": "http.response.body", "body": content})
        return None

    async def _answer(self, name: str, body: bytes, headers: dict[str, str]) -> tuple[int, bytes, int | None]:
        try:
            if not await self._dataplane.model_ready(name, disable_predictor_health_check=True):
                raise ModelNotReady(name)
            lengths = {**headers, HEADER_LENGTH: str(len(body))}
            request = self._dataplane.decode_inference_request(body, lengths, name)
            response, _ = await self._dataplane.infer(name, request, headers)
            content, header_length = response.to_rest()
        except InvalidInput as error:
            return 400, _error(error), None
        except ModelNotFound as error:
            return 404, _error(error), None
        except ModelNotReady as error:
            return 503, _error(error), None
        except Exception as error:
            log.exception("an inference request failed")
            return 500, _error(error), None
        if header_length is None:
            content = orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)
        return 200, content, header_length


async def _body(receive: Receive) -> bytes:
    parts = []
    while True:
        message = await receive()
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(parts)


def _error(error: Exception) -> bytes:
    return orjson.dumps({"error": str(error)})
