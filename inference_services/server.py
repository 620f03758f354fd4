"""Runs one model in KServe's ModelServer: one clear line and exit code 1 when it cannot start, 400 for a bad request.

KServe parses `sys.argv` on import, so only a service's `__main__` imports this module.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import socket
import sys
import warnings
from collections.abc import Callable
from typing import Any, TypeVar

import kserve.model_server
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from kserve import InferRequest, Model, ModelServer
from kserve.errors import InferenceError, InvalidInput
from kserve.protocol.dataplane import DataPlane

from inference_services.direct_infer import DirectInfer
from inference_services.errors import InvalidRequest, ServingError
from inference_services.grpc_scope import RequestScopeInterceptor
from inference_services.grpc_server import use_interceptors
from inference_services.metrics import CallMetrics
from inference_services.request_context import adopt
from inference_services.request_scope import RequestScope

log = logging.getLogger("fraud")
GRACE_PERIOD_S = 10
M = TypeVar("M", bound=Model)


class Refused(InvalidInput):
    """What KServe turns into 400 and INVALID_ARGUMENT; raised in place of our own InvalidRequest."""


class _OneLine(logging.Formatter):
    """One JSON object per record; a traceback only for what is not the caller's mistake."""

    def format(self, record: logging.LogRecord) -> str:
        entry = {"time": self.formatTime(record), "level": record.levelname, "message": record.getMessage()}
        error = record.exc_info[1] if record.exc_info else None
        if error is not None:
            entry["error"] = f"{type(error).__name__}: {error}"
            if not isinstance(error, InvalidInput | RequestValidationError) and record.exc_info:
                entry["traceback"] = self.formatException(record.exc_info)
        return json.dumps(entry, ensure_ascii=False)


class _StrictDataPlane(DataPlane):
    """Lets no malformed request end as an internal error."""

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

    async def ready(self) -> bool:
        """Whether every model is: KServe's own answer is True from the first moment."""
        models = self.model_registry.get_models().values()
        return bool(models) and all([await model.healthy() for model in models])

    async def infer(self, model_name: str, request: Any, headers: Any = None) -> tuple[Any, dict[str, str]]:
        """Calls the model and turns InvalidRequest into what KServe answers with 400."""
        if isinstance(request, InferRequest):
            adopt(str(request.id or ""))
        try:
            result: tuple[Any, dict[str, str]] = await super().infer(model_name, request, headers)
        except InvalidRequest as error:
            raise Refused(str(error)) from None
        return result


async def _refuse_body(_: Request, error: Exception) -> Response:
    first = error.errors()[0] if isinstance(error, RequestValidationError) else {"loc": (), "msg": str(error)}
    where = ".".join(str(part) for part in first["loc"] if part not in {"body", "InferenceRequest", "bytes"})
    return JSONResponse({"error": f"the request is not a V2 inference request: {where or 'body'}: {first['msg']}"}, 400)


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
    configure_logging()
    parser = argparse.ArgumentParser(description=description, parents=[kserve.model_server.parser])
    if model_dir:
        parser.add_argument("--model_dir", required=True, help="Folder of the verified bundle to serve.")
    args = parser.parse_args()
    try:
        _check_ports([args.http_port, *([args.grpc_port] if args.enable_grpc else [])])
        model = build(args)
    except ServingError as error:
        log.error("%s", error)
        sys.exit(1)
    app = kserve.model_server.app
    app.add_exception_handler(RequestValidationError, _refuse_body)
    if add_routes is not None:
        add_routes(app, model)
    server = ModelServer(enable_latency_logging=False, grace_period=GRACE_PERIOD_S)
    server.dataplane = _StrictDataPlane(model_registry=server.registered_models)
    app.add_middleware(DirectInfer, dataplane=server.dataplane)
    calls = CallMetrics(model.name, model.version, revision())
    # The one that is added last is outermost.
    app.add_middleware(RequestScope, calls=calls)
    use_interceptors([RequestScopeInterceptor(calls)])
    log.warning("%s is loaded and listens on port %d", model.name, args.http_port)
    server.start([model])


def revision() -> str:
    """The Knative revision that this process is, empty outside of one."""
    return os.environ.get("K_REVISION", "")


def configure_logging() -> None:
    """One line per problem on stderr: KServe's per-request lines are left to its metrics."""
    handler = logging.StreamHandler()
    handler.setFormatter(_OneLine())
    for name in ("kserve", "uvicorn", "fraud"):
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.propagate = False
        logger.setLevel(logging.WARNING)
    # KServe's choice of response class, not something that an operator can act on.
    warnings.filterwarnings("ignore", message="ORJSONResponse is deprecated")
    logging.getLogger("uvicorn.access").setLevel(logging.WARNING)
    logging.getLogger("kserve.trace").setLevel(logging.WARNING)


def _check_ports(ports: list[int]) -> None:
    # gRPC binds with SO_REUSEPORT: a second server on the port would silently take half of the first one's calls.
    for port in ports:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("", port))
            except OSError as error:
                raise ServingError(f"port {port} cannot be used ({error.strerror}); choose another") from None
