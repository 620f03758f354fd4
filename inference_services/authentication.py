"""Asks callers for a bearer token, over REST and gRPC; health, readiness and metrics stay open to probes and scrapers.

On a cluster the mesh knows who calls, by certificate, and an AuthorizationPolicy decides. No identity is read from
headers here: whoever reaches the port past the sidecar could write any.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import orjson
from grpc.aio import ServerInterceptor

from feature_repo.tokens import AUTHORIZATION
from inference_services.request_scope import Application, Message, Receive, Send
from inference_services.tokens import TokenFile

REFUSED = "a bearer token is needed: send the header `authorization: Bearer <token>`"

_OPEN_PATHS = re.compile(r"/|/metrics|/v2/health/(live|ready)|/v2/models/[^/]+(/versions/[^/]+)?/ready")
_OPEN_METHODS = frozenset(
    f"/inference.GRPCInferenceService/{name}" for name in ("ServerLive", "ServerReady", "ModelReady")
)
_HEADER = AUTHORIZATION.encode()
_BODY = orjson.dumps({"error": REFUSED})


class Authentication:
    """ASGI middleware: 401 without a valid token.

    Args:
        app: the application behind it.
        tokens: the valid ones.
    """

    def __init__(self, app: Application, tokens: TokenFile) -> None:
        self._app = app
        self._tokens = tokens

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Passes on, or refuses."""
        if scope["type"] != "http" or _is_open(scope):
            return await self._app(scope, receive, send)
        given = next((value for name, value in scope["headers"] if name == _HEADER), None)
        if given is not None and self._tokens.accepts(given):
            return await self._app(scope, receive, send)
        # RFC 6750, section 3: no error code for a request that brought nothing.
        challenge = b"Bearer" if given is None else b'Bearer error="invalid_token"'
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(_BODY))]
        headers.append((b"www-authenticate", challenge))
        await send({"type": "http.response.start", "status": 401, "headers": headers})
        return await send({"type": "http.response.body", "body": _BODY})


class AuthenticationInterceptor(ServerInterceptor):
    """UNAUTHENTICATED without a valid token.

    Args:
        tokens: the valid ones.
    """

    def __init__(self, tokens: TokenFile) -> None:
        self._tokens = tokens

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler:
        """Leaves the handler as it is, or gives one that refuses."""
        handler = await continuation(handler_call_details)
        if handler is None or handler_call_details.method in _OPEN_METHODS:
            return handler
        given = dict(handler_call_details.invocation_metadata or ()).get(AUTHORIZATION, "")
        if self._tokens.accepts(given.encode()):
            return handler
        return grpc.unary_unary_rpc_method_handler(_refuse, handler.request_deserializer, handler.response_serializer)


async def _refuse(_: Any, context: grpc.aio.ServicerContext) -> None:
    await context.abort(grpc.StatusCode.UNAUTHENTICATED, REFUSED)


def _is_open(scope: Message) -> bool:
    return scope["method"] in {"GET", "HEAD"} and _OPEN_PATHS.fullmatch(scope["path"]) is not None
