"""The Kubernetes REST subset over HTTP: InferenceServices only, with Status objects for refusals."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from simulators.local_kserve.admission import API_VERSION
from simulators.local_kserve.controller import Controller
from simulators.local_kserve.errors import ApiError
from simulators.local_kserve.patches import json_patch, merge_patch

_GROUP = f"/apis/{API_VERSION}"
_ALL = f"{_GROUP}/inferenceservices"
_MANY = f"{_GROUP}/namespaces/{{namespace}}/inferenceservices"
_ONE = f"{_MANY}/{{name}}"
# The version whose rules this follows.
_VERSION = {"major": "1", "minor": "32", "gitVersion": "v1.32.0+local-kserve"}


def make_app(controller: Controller) -> web.Application:
    """The API of `controller`."""
    api = _Api(controller)
    app = web.Application(middlewares=[_refusals])
    app.add_routes(
        [
            web.get("/healthz", api.health),
            web.get("/version", api.version),
            web.get("/local/requests", api.requests),
            web.get(_ALL, api.list),
            web.get(_MANY, api.list),
            web.post(_MANY, api.create),
            web.get(_ONE, api.get),
            web.put(_ONE, api.replace),
            web.patch(_ONE, api.patch),
            web.delete(_ONE, api.delete),
        ]
    )
    return app


@web.middleware
async def _refusals(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    try:
        return await handler(request)
    except ApiError as error:
        refusal = error
    except web.HTTPNotFound:
        refusal = ApiError(404, "NotFound", f"the local KServe serves only inferenceservices, not {request.path}")
    except web.HTTPMethodNotAllowed:
        refusal = ApiError(405, "MethodNotAllowed", f"{request.method} is not supported on {request.path}")
    return web.json_response(refusal.status(), status=refusal.code)


class _Api:
    def __init__(self, controller: Controller) -> None:
        self._controller = controller

    async def health(self, _: web.Request) -> web.Response:
        return web.Response(text="ok")

    async def version(self, _: web.Request) -> web.Response:
        return web.json_response(_VERSION)

    async def requests(self, _: web.Request) -> web.Response:
        return web.json_response(dict(self._controller.requests))

    async def list(self, request: web.Request) -> web.Response:
        items = self._controller.list(request.match_info.get("namespace"))
        return web.json_response(
            {"apiVersion": API_VERSION, "kind": "InferenceServiceList", "metadata": {}, "items": items}
        )

    async def get(self, request: web.Request) -> web.Response:
        return web.json_response(self._controller.get(*_address(request)))

    async def create(self, request: web.Request) -> web.Response:
        isvc = await _body(request, dict)
        return web.json_response(self._controller.create(request.match_info["namespace"], isvc), status=201)

    async def replace(self, request: web.Request) -> web.Response:
        return web.json_response(self._controller.replace(*_address(request), await _body(request, dict)))

    async def patch(self, request: web.Request) -> web.Response:
        stored = self._controller.get(*_address(request))
        # Without it the patch is unconditional, as in Kubernetes; a patch may name the version it was made from.
        current = {**stored, "metadata": {**stored["metadata"]}}
        del current["metadata"]["resourceVersion"]
        match request.content_type:
            case "application/merge-patch+json":
                changed = merge_patch(current, await _body(request, dict))
            case "application/json-patch+json":
                changed = json_patch(current, await _body(request, list))
            case other:
                message = f"custom resources take merge-patch+json or json-patch+json, not {other}"
                raise ApiError(415, "UnsupportedMediaType", message)
        return web.json_response(self._controller.replace(*_address(request), changed))

    async def delete(self, request: web.Request) -> web.Response:
        self._controller.delete(*_address(request))
        return web.json_response({"apiVersion": "v1", "kind": "Status", "status": "Success"})


def _address(request: web.Request) -> tuple[str, str]:
    return request.match_info["namespace"], request.match_info["name"]


async def _body(request: web.Request, kind: type) -> Any:
    try:
        body = await request.json()
    except json.JSONDecodeError as error:
        raise ApiError(400, "BadRequest", f"the body is not JSON: {error}") from error
    if not isinstance(body, kind):
        raise ApiError(400, "BadRequest", f"the body must be a JSON {'array' if kind is list else 'object'}")
    return body
