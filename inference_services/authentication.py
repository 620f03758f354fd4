"""Asks callers for a bearer token, over REST and gRPC; health, readiness and metrics stay open to probes and scrapers.

On a cluster the mesh knows who calls, by certificate, and an AuthorizationPolicy decides. No identity is read from
headers here: whoever reaches the port past the sidecar could write any.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import grpc
from grpc.aio import ServerInterceptor

from feature_repo.tokens import AUTHORIZATION
from inference_services.asgi import Answer, Application, Header, Message, Receive, Send
from inference_services.tokens import TokenFile

REFUSED = "a bearer token is needed: send the header `authorization: Bearer <token>`"

_OPEN_PATHS = re.compile(r"/|/metrics|/v2/health/(live|ready)|/v2/models/[^/]+(/versions/[^/]+)?/ready")
_OPEN_METHODS = frozenset(
    f"/inference.GRPCInferenceService/{name}" for name in ("ServerLive", "ServerReady", "ModelReady")
)
_HEADER = AUTHORIZATION.encode()


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
        refused = refusal(self._tokens, scope["headers"])
        return await (self._app(scope, receive, send) if refused is None else refused.send(send))


def refusal(tokens: TokenFile, headers: Sequence[Header]) -> Answer | None:
    """The answer to a request whose headers bring no valid token; None when they do."""
    given = next((value for name, value in headers if name == _HEADER), None)
    if given is not None and tokens.accepts(given):
        return None
    # RFC 6750, section 3: no error code for a request that brought nothing.
    challenge = b"Bearer" if given is None else b'Bearer error="invalid_token"'
    return Answer.error(401, REFUSED, (b"www-authenticate", challenge))


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
