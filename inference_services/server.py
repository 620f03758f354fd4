"""Runs one model in KServe's ModelServer: one clear line and exit code 1 when it cannot start, 400 for a bad request.

KServe parses `sys.argv` on import, so only a service's `__main__` imports this module.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import socket
import sys
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import kserve.model_server
import uvloop
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from kserve import InferRequest, Model
from kserve.errors import (
    InferenceError,
    InvalidInput,
    ModelNotFound,
    ModelNotReady,
    ServerNotReady,
    UnsupportedProtocol,
)
from kserve.model_repository import ModelRepository
from kserve.protocol.dataplane import DataPlane

from inference_services import protocol
from inference_services.admission import AdmissionLimit
from inference_services.application import ServiceApplication
from inference_services.authentication import Authentication, AuthenticationInterceptor
from inference_services.direct_protocol import Connections, DirectProtocol
from inference_services.direct_route import DirectRoute
from inference_services.draining import Drain, DrainingServer
from inference_services.errors import InvalidRequest, ServingError
from inference_services.grpc_scope import RequestScopeInterceptor
from inference_services.grpc_server import use_interceptors
from inference_services.logs import configure_logging
from inference_services.metrics import CallMetrics
from inference_services.request_context import adopt
from inference_services.request_scope import RequestScope, Uncaught
from inference_services.served import Served
from inference_services.server_settings import ServerSettings
from inference_services.shedding import SheddingInterceptor, SheddingMiddleware, show
from inference_services.time_slice import ask_for_short_slices
from inference_services.tokens import TokenFile
from inference_services.tracing import start_tracing

log = logging.getLogger("fraud")
# What a caller did wrong, or came too early for: answered and counted, and nothing for the log.
_MISTAKES = (
    InvalidInput,
    RequestValidationError,
    ModelNotFound,
    ModelNotReady,
    UnsupportedProtocol,
    ServerNotReady,
    protocol.RepositoryIsFixed,
)
M = TypeVar("M", bound=Model)


class Refused(InvalidInput):
    """What KServe turns into 400 and INVALID_ARGUMENT; raised in place of our own InvalidRequest."""


class _StrictDataPlane(DataPlane):
    """Lets no malformed request end as an internal error, and is not ready while the process drains."""

    def __init__(self, model_registry: ModelRepository, drain: Drain) -> None:
        super().__init__(model_registry)
        self._drain = drain

    def decode_inference_request(self, body: Any, headers: Any, model_name: str) -> InferRequest:
        """Decodes a REST request; KServe lets a malformed binary body through as a 500."""
        try:
            request: InferRequest = super().decode_inference_request(body, headers, model_name)
            dict(request.parameters or {})
            for output in request.request_outputs or ():
                dict(output.parameters or {})
            return request
        except InvalidInput:
            raise
        except (InferenceError, AttributeError, KeyError, TypeError, ValueError) as error:
            raise Refused(f"the request is not a V2 inference request: {type(error).__name__}: {error}") from None
        except Exception as error:  # struct.error and pydantic's own, from inside KServe's decoding
            raise Refused(f"the request body cannot be decoded: {error}") from None

    def metadata(self) -> dict[str, Any]:
        """Server metadata, with the extension that there is."""
        return {**super().metadata(), "extensions": ["binary_tensor_data"]}

    async def model_metadata(self, model_name: str) -> dict[str, Any]:
        """Model metadata, with the version that is served."""
        metadata: dict[str, Any] = await super().model_metadata(model_name)
        return {**metadata, "versions": [protocol.version_of(self.model_registry, model_name)]}

    async def ready(self) -> bool:
        """Whether every model is: KServe's own answer is True from the first moment."""
        models = self.model_registry.get_models().values()
        return not self._drain.begun and bool(models) and all([await model.healthy() for model in models])

    async def model_ready(self, model_name: str, disable_predictor_health_check: bool = False) -> bool:
        """Whether the model is; KServe sets the flag where it asks for an inference that has come already."""
        ready: bool = await super().model_ready(model_name, disable_predictor_health_check)
        return ready and (disable_predictor_health_check or not self._drain.begun)

    async def infer(self, model_name: str, request: Any, headers: Any = None) -> tuple[Any, dict[str, str]]:
        """Calls the model and turns InvalidRequest into what KServe answers with 400."""
        if isinstance(request, InferRequest):
            adopt(str(request.id or ""))
        protocol.check_version(request, self.model_registry)
        try:
            result: tuple[Any, dict[str, str]] = await super().infer(model_name, request, headers)
        except InvalidRequest as error:
            raise Refused(str(error)) from None
        return result


def serve(
    description: str,
    build: Callable[[argparse.Namespace], M],
    *,
    model_dir: bool = True,
    add_routes: Callable[[FastAPI, M], None] | None = None,
) -> None:
    """Parses the flags, builds the model (loaded and warmed), and serves REST and gRPC until told to stop.

    Args:
        description: one sentence for `--help`.
        build: makes the model, whose `ready` is True, from the flags; raises ServingError when it cannot.
        model_dir: whether the service takes a bundle through `--model_dir`.
        add_routes: adds routes beside KServe's own.
    """
    # First, so that all threads have them.
    ask_for_short_slices()
    lines = configure_logging(_MISTAKES)
    parser = argparse.ArgumentParser(description=description, parents=[kserve.model_server.parser])
    if model_dir:
        parser.add_argument("--model_dir", required=True, help="Folder of the verified bundle to serve.")
    args = parser.parse_args()
    try:
        settings = ServerSettings.read()
        tokens = TokenFile(settings.token_file) if settings.token_file else None
        _check_ports([args.http_port, *([args.grpc_port] if args.enable_grpc else [])])
        model = build(args)
        lines.served = served = Served.of(model, revision())
        start_tracing(served)
    except ServingError as error:
        log.error("%s", error)
        sys.exit(1)
    app = kserve.model_server.app = ServiceApplication.like(kserve.model_server.app)
    if add_routes is not None:
        add_routes(app, model)
    drain, limit = Drain(), AdmissionLimit(settings.bounds)
    server = DrainingServer(drain, settings.drain_s, settings.grace_s, enable_latency_logging=False)
    server.dataplane = _StrictDataPlane(server.registered_models, drain)
    _surround(app, server, limit, served, tokens)
    # KServe runs the loop of the policy, whatever `--event-loop` says, and before it wants one to be there.
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    asyncio.set_event_loop(uvloop.new_event_loop())
    log.warning("%s is loaded and listens on port %d", model.name, args.http_port)
    server.start([model])


def _surround(
    app: ServiceApplication, server: DrainingServer, limit: AdmissionLimit, served: Served, tokens: TokenFile | None
) -> None:
    """Puts what every request passes around KServe's application and its gRPC server, and the direct route beside."""
    # The middleware that is added last is outermost, the interceptor that is named first.
    app.add_middleware(Uncaught)
    protocol.complete(app, server)
    calls = CallMetrics(served)
    route = DirectRoute(
        models=server.registered_models, app=app.outermost, limit=limit, calls=calls, served=served, tokens=tokens
    )
    server.http = partial(DirectProtocol, route, Connections())
    app.surround(SheddingMiddleware, limit=limit)
    if tokens is not None:
        app.surround(Authentication, tokens=tokens)
    app.surround(RequestScope, calls=calls, served=served)
    asking = [] if tokens is None else [AuthenticationInterceptor(tokens)]
    use_interceptors([RequestScopeInterceptor(calls, served), *asking, SheddingInterceptor(limit)])
    show(limit)


def revision() -> str:
    """The Knative revision that this process is, empty outside of one."""
    return os.environ.get("K_REVISION", "")


def _check_ports(ports: list[int]) -> None:
    # gRPC binds with SO_REUSEPORT: a second server on the port would silently take half of the first one's calls.
    for port in ports:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("", port))
            except OSError as error:
                raise ServingError(f"port {port} cannot be used ({error.strerror}); choose another") from None
