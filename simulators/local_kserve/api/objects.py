"""The verbs on InferenceServices: get, list, watch, create, update, patch, delete."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from aiohttp import web

from simulators.local_kserve.admission import API_VERSION
from simulators.local_kserve.api import discovery
from simulators.local_kserve.api.selectors import selector
from simulators.local_kserve.api.tables import table
from simulators.local_kserve.api.watch import watch
from simulators.local_kserve.controller import Controller
from simulators.local_kserve.errors import ApiError
from simulators.local_kserve.patches import json_patch, merge_patch

# The namespace of our manifests; others come with their objects.
_NAMESPACE = "fraud"

# How each kind of patch changes an object, and what its body is.
_PATCHES: dict[str, tuple[Callable[[Any, Any], Any], type]] = {
    "application/merge-patch+json": (merge_patch, dict),
    "application/json-patch+json": (json_patch, list),
}


class Objects:
    """Answers requests from a controller's objects."""

    def __init__(self, controller: Controller) -> None:
        self._controller = controller

    async def namespaces(self, _: web.Request) -> web.Response:
        """Every namespace."""
        return web.json_response(discovery.namespaces(self._namespaces()))

    async def namespace(self, request: web.Request) -> web.Response:
        """One namespace."""
        name = request.match_info["name"]
        if name not in self._namespaces():
            raise ApiError(404, "NotFound", f'namespaces "{name}" not found')
        return web.json_response(discovery.namespace(name))

    def _namespaces(self) -> set[str]:
        return {_NAMESPACE, *(thing["metadata"]["namespace"] for thing in self._controller.list(None))}

    async def list(self, request: web.Request) -> web.StreamResponse:
        """The objects of a namespace or of all, or a watch of them."""
        namespace = request.match_info.get("namespace")
        chosen = selector(request.query.get("labelSelector", ""), request.query.get("fieldSelector", ""))

        def wanted(thing: Any) -> bool:
            return namespace in {None, thing["metadata"]["namespace"]} and chosen(thing)

        version = str(self._controller.events.version)
        if request.query.get("watch") in {"true", "True", "1"}:
            as_table = _wants_table(request)
            return await watch(
                request, self._controller, wanted, lambda thing: table([thing], version) if as_table else thing
            )
        items = [thing for thing in self._controller.list(None) if wanted(thing)]
        if _wants_table(request):
            return web.json_response(table(items, version))
        metadata = {"resourceVersion": version}
        return web.json_response(
            {"apiVersion": API_VERSION, "kind": "InferenceServiceList", "metadata": metadata, "items": items}
        )

    async def get(self, request: web.Request) -> web.Response:
        """One object."""
        found = self._controller.get(*_address(request))
        if _wants_table(request):
            return web.json_response(table([found], found["metadata"]["resourceVersion"]))
        return web.json_response(found)

    async def create(self, request: web.Request) -> web.Response:
        """A new object."""
        isvc = await _body(request, dict)
        created = self._controller.create(request.match_info["namespace"], isvc, dry_run=_dry_run(request))
        return web.json_response(created, status=201)

    async def replace(self, request: web.Request) -> web.Response:
        """An object in place of the one stored."""
        isvc = await _body(request, dict)
        return web.json_response(self._controller.replace(*_address(request), isvc, dry_run=_dry_run(request)))

    async def patch(self, request: web.Request) -> web.Response:
        """A change of the object stored."""
        if request.content_type not in _PATCHES:
            taken = " and ".join(_PATCHES)
            message = f"the local KServe takes {taken}, not {request.content_type}"
            raise ApiError(415, "UnsupportedMediaType", message)
        stored = self._controller.get(*_address(request))
        # Without it the patch is unconditional, as in Kubernetes; a patch may name the version it was made from.
        current = {**stored, "metadata": {**stored["metadata"]}}
        del current["metadata"]["resourceVersion"]
        apply, kind = _PATCHES[request.content_type]
        changed = apply(current, await _body(request, kind))
        return web.json_response(self._controller.replace(*_address(request), changed, dry_run=_dry_run(request)))

    async def delete(self, request: web.Request) -> web.Response:
        """The end of an object, if it is the one that the options name."""
        options = await _body(request, dict) if request.can_read_body else {}
        given = options.get("preconditions") or {}
        preconditions = {name: given[name] for name in ("uid", "resourceVersion") if given.get(name)}
        dry_run = _dry_run(request) or options.get("dryRun") == ["All"]
        was = self._controller.delete(*_address(request), preconditions, dry_run=dry_run)
        details = {
            "name": was["metadata"]["name"],
            "group": discovery.GROUP,
            "kind": discovery.PLURAL,
            "uid": was["metadata"]["uid"],
        }
        return web.json_response({"apiVersion": "v1", "kind": "Status", "status": "Success", "details": details})


def _address(request: web.Request) -> tuple[str, str]:
    return request.match_info["namespace"], request.match_info["name"]


def _wants_table(request: web.Request) -> bool:
    return any("as=Table" in accepted for accepted in request.headers.getall("Accept", []))


def _dry_run(request: web.Request) -> bool:
    return request.query.get("dryRun") == "All"


async def _body(request: web.Request, kind: type) -> Any:
    try:
        body = await request.json()
    # The latter two: no UTF-8, and arrays within arrays without end.
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ApiError(400, "BadRequest", f"the body is not JSON: {error}") from error
    if not isinstance(body, kind):
        raise ApiError(400, "BadRequest", f"the body must be a JSON {'array' if kind is list else 'object'}")
    return body
