"""A watch: every change of the objects that a client asked for, a line of JSON each, until it has had enough."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

from aiohttp import web

from simulators.local_kserve.api.selectors import Test
from simulators.local_kserve.controller import Controller
from simulators.local_kserve.errors import ApiError
from simulators.local_kserve.events import Event

# As an API server does where a client names no time.
_LONGEST_S = 1800


async def watch(
    request: web.Request, controller: Controller, wanted: Test, shown: Callable[[dict[str, Any]], dict[str, Any]]
) -> web.StreamResponse:
    """Answers a request with `watch=true`.

    Args:
        request: may name `resourceVersion`, the last one seen, and `timeoutSeconds`.
        controller: whose objects.
        wanted: which of them.
        shown: an object as the client wants to see it.
    """
    since = request.query.get("resourceVersion", "")
    try:
        seconds = int(request.query.get("timeoutSeconds", _LONGEST_S))
        expired = since not in {"", "0"} and controller.events.expired(int(since))
    except ValueError as error:
        raise ApiError(400, "BadRequest", f"resourceVersion and timeoutSeconds must be numbers: {error}") from None
    if expired:
        raise ApiError(410, "Expired", f"too old resource version: {since}")
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    await response.prepare(request)
    try:
        async with asyncio.timeout(seconds):
            async for event in _events(controller, since):
                if wanted(event.thing):
                    line = json.dumps({"type": event.kind, "object": shown(event.thing)})
                    await response.write(line.encode() + b"\n")
    except (TimeoutError, ConnectionError):
        pass
    return response


async def _events(controller: Controller, since: str) -> AsyncIterator[Event]:
    """What happens after a version; without one what there is, as ADDED, and then what happens."""
    seen = controller.events.version
    if since in {"", "0"}:
        for thing in controller.list(None):
            yield Event(seen, "ADDED", thing)
    else:
        seen = int(since)
    while events := await controller.events.after(seen):
        for event in events:
            yield event
        seen = events[-1].version
