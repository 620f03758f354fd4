"""Predictors that a test plays, in place of `HttpPool`."""

from __future__ import annotations

import asyncio
import inspect
import re
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import orjson

from inference_services.transformer.http_pool import HttpAnswer
from inference_services.v2 import Array, Datatype, Tensors
from inference_services.v2_rest import decode

Handler = Callable[[dict[str, Any]], httpx.Response | Awaitable[httpx.Response] | None]


class PlayedServer:
    """Hands each request to a handler, decoded as if it were JSON with one tensor for each feature.

    Args:
        handler: answers; None is no answer at all.
    """

    def __init__(self, handler: Handler) -> None:
        self._handler = handler

    async def post(self, path: str, headers: bytes, body: bytes) -> HttpAnswer:
        assert re.fullmatch("/v2/models/[a-z-]+/infer", path)
        length = re.search(rb"inference-header-content-length: (\d+)\r\n", headers)
        assert length is not None
        response = self._handler(as_json(body, int(length[1])))
        if inspect.isawaitable(response):
            response = await response
        if response is None:
            await asyncio.sleep(60)
            raise TimeoutError("nobody waited this long")
        return HttpAnswer(response.status_code, response.content)


def as_json(body: bytes, header_length: int) -> dict[str, Any]:
    """The request as JSON would have it; a matrix of features as a tensor for each."""
    request = decode(body, header_length)
    assert request is not None
    tensors, inputs = Tensors(request.tensors), []
    for tensor in request.tensors:
        datatype: Datatype = tensor.datatype  # type: ignore[assignment]
        values = tensors.array(tensor.name, datatype, tensor.shape)
        named = {tensor.name: values}
        if tensor.name == "features":
            names = tensors.text_parameter("features", "columns").split(",")
            named = dict(zip(names, values.T, strict=True))
        inputs += [
            {"name": name, "datatype": datatype, "shape": list(v.shape), "data": _plain(v)} for name, v in named.items()
        ]
    return {"inputs": inputs, **({"outputs": [{"name": n} for n in request.wanted]} if request.wanted else {})}


def _plain(values: Array) -> Any:
    return orjson.loads(orjson.dumps(values.ravel().tolist()))  # NaN becomes null
