"""The API over HTTP: routes, and a Status object for every refusal."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Any

from aiohttp import web

from simulators.local_kserve.api import discovery
from simulators.local_kserve.api.objects import Objects
from simulators.local_kserve.controller import Controller
from simulators.local_kserve.errors import ApiError

_ROOT = f"/apis/{discovery.GROUP}/{discovery.VERSION}"
_ALL = f"{_ROOT}/{discovery.PLURAL}"
_MANY = f"{_ROOT}/namespaces/{{namespace}}/{discovery.PLURAL}"
_ONE = f"{_MANY}/{{name}}"
_DOCUMENTS: dict[str, dict[str, Any]] = {
    "/version": discovery.SERVER,
    "/api": discovery.CORE_VERSIONS,
    "/api/v1": discovery.CORE_RESOURCES,
    "/apis": discovery.GROUPS,
    f"/apis/{discovery.GROUP}": discovery.OUR_GROUP,
    _ROOT: discovery.OUR_RESOURCES,
    "/openapi/v3": discovery.OPENAPI_INDEX,
    discovery.OPENAPI_PATH: discovery.OPENAPI,
}


def make_app(controller: Controller) -> web.Application:
    """The API of `controller`."""
    objects = Objects(controller)

    async def health(_: web.Request) -> web.Response:
        return web.Response(text="ok")

    async def requests(_: web.Request) -> web.Response:
        return web.json_response(dict(controller.requests))

    async def payload_log(_: web.Request) -> web.Response:
        return web.json_response({name: asdict(counts) for name, counts in controller.payload_counts.items()})

    app = web.Application(middlewares=[_refusals])
    app.add_routes(web.get(path, _document(document)) for path, document in _DOCUMENTS.items())
    app.add_routes(
        [
            web.get("/healthz", health),
            web.get("/local/requests", requests),
            web.get("/local/payload_log", payload_log),
            web.get("/api/v1/namespaces", objects.namespaces),
            web.get("/api/v1/namespaces/{name}", objects.namespace),
            web.get(_ALL, objects.list),
            web.get(_MANY, objects.list),
            web.post(_MANY, objects.create),
            web.get(_ONE, objects.get),
            web.put(_ONE, objects.replace),
            web.patch(_ONE, objects.patch),
            web.delete(_ONE, objects.delete),
        ]
    )
    return app


def _document(content: dict[str, Any]) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def answer(_: web.Request) -> web.Response:
        return web.json_response(content)

    return answer


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
