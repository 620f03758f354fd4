"""What the V2 protocol asks for beside inference, where KServe leaves it out or answers in another shape.

- Versioned paths (`/v2/models/NAME/versions/VERSION/...`, which KServe answers with 501) serve the version that is
  loaded and know no other one (404). Metadata names it.
- A body that is too large is a 413, and one that says that it is something else than JSON or binary tensors a 400,
  before it is read.
- Every error has the shape {"error": text}; FastAPI's own have another.
- What is served is decided by `storageUri`: the repository extension, by which any caller could unload the model, is
  refused with 501 (gRPC: UNIMPLEMENTED).
"""

from __future__ import annotations

import re
from typing import Any

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from kserve import InferRequest, ModelServer
from kserve.errors import ModelNotFound
from kserve.model_repository import ModelRepository
from kserve.protocol.model_repository_extension import ModelRepositoryExtension

from inference_services.application import ServiceApplication
from inference_services.asgi import BINARY, JSON, Application, Message, Receive, Send
from inference_services.v2_rest import HEADER_LENGTH

# The largest honest body, 1,024 event subgraphs with all their neighbours as JSON, has 14 MB; embeddings of a second
# version add 8.
MAX_BODY_BYTES = 32 * 2**20
# What FastAPI itself refuses: a body that it cannot read, a path and a method that there is not.
_FRAMEWORK_STATUSES = (400, 404, 405)
_VERSIONED = re.compile(r"(/v2/models/([^/]+))/versions/([^/]+)(/ready|/infer)?")
_BODY_TYPES = re.compile(rb"application/(json|octet-stream|[\w.-]+\+json)\s*(;.*)?", re.IGNORECASE)


class UnknownVersion(ModelNotFound):
    """The model is served in another version: 404 and NOT_FOUND."""

    def __init__(self, name: str, version: str, served: str) -> None:
        super().__init__(name)
        self.reason = f"Model {name} is not served in version {version!r:.80}; there is {served}."


class FixedRepository(ModelRepositoryExtension):
    """Loads and unloads nothing."""

    async def load(self, model_name: str) -> None:
        """Refuses."""
        raise RepositoryIsFixed(model_name)

    async def unload(self, model_name: str) -> None:
        """Refuses."""
        raise RepositoryIsFixed(model_name)


class RepositoryIsFixed(NotImplementedError):
    """Somebody asked to load or unload a model: 501 and UNIMPLEMENTED."""

    def __init__(self, name: str) -> None:
        # KServe's gRPC interceptor reads `reason`, which NotImplementedError lacks.
        self.reason = f"{name} is served as deployed; to change it, change the storageUri of its InferenceService"
        super().__init__(self.reason)


def complete(app: ServiceApplication, server: ModelServer) -> None:
    """Adds all of it to KServe's application and server; of the middlewares, the last to be added runs first."""
    server.model_repository_extension = FixedRepository(server.registered_models)
    app.add_exception_handler(RequestValidationError, _refuse_body)
    for status in _FRAMEWORK_STATUSES:
        app.add_exception_handler(status, _error_shape)
    app.surround(BodyCheck)
    app.surround(VersionedPaths, models=server.registered_models)


def version_of(models: ModelRepository, name: str) -> str | None:
    """The version that a model is served in, None where there is no such model."""
    model = models.get_model(name)
    return None if model is None else str(model.version)


def check_version(request: Any, models: ModelRepository) -> None:
    """Raises UnknownVersion when a gRPC request names another version than the one that is served."""
    wanted = request.model_version if isinstance(request, InferRequest) else None
    if not wanted:
        return
    served = version_of(models, request.model_name)
    if served is not None and wanted != served:
        raise UnknownVersion(request.model_name, wanted, served)


class VersionedPaths:
    """ASGI middleware: a versioned path becomes the unversioned one.

    Args:
        app: the application behind it.
        models: the served models, each with its `version`.
    """

    def __init__(self, app: Application, models: ModelRepository) -> None:
        self._app = app
        self._models = models

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Passes the request on, or answers 404."""
        match = _VERSIONED.fullmatch(scope["path"]) if scope["type"] == "http" else None
        if match is None:
            return await self._app(scope, receive, send)
        base, name, version, rest = match.groups()
        served = version_of(self._models, name)
        if served is not None and served != version:
            unknown = UnknownVersion(name, version, served)
            return await _error(404, unknown.reason)(scope, receive, send)
        path = base + (rest or "")
        return await self._app({**scope, "path": path, "raw_path": path.encode()}, receive, send)


class BodyCheck:
    """ASGI middleware: refuses a body by its size or declared type, before anything decodes it; no type is JSON."""

    def __init__(self, app: Application) -> None:
        self._app = app

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Passes the request on, or answers 400 or 413."""
        if scope["type"] != "http" or scope["method"] != "POST":
            return await self._app(scope, receive, send)
        headers = dict(scope["headers"])
        kind = headers.get(b"content-type")
        if kind is None:
            # tritonclient names none.
            kind = BINARY if HEADER_LENGTH.encode() in headers else JSON
            scope = {**scope, "headers": [*scope["headers"], (b"content-type", kind)]}
        if kind not in (JSON, BINARY) and not _BODY_TYPES.fullmatch(kind):
            refusal = f"a body of content type {kind.decode('latin-1')!r:.80} is not understood; send "
            refusal += f"application/json, or application/octet-stream with {HEADER_LENGTH}"
            return await _error(400, refusal)(scope, receive, send)
        length = headers.get(b"content-length")
        if length is None:
            receive, size = await _hold(receive)
        else:
            # The parser lets no number through that is too large, but any zeros; Python makes no integer of thousands.
            size = int(length.lstrip(b"0") or b"0")
        if size > MAX_BODY_BYTES:
            # The server reads what is still to come, and keeps none of it.
            return await _error(413, f"the body has more than {MAX_BODY_BYTES:,} bytes")(scope, receive, send)
        return await self._app(scope, receive, send)


async def _hold(receive: Receive) -> tuple[Receive, int]:
    """Reads a body of unknown length, up to the limit; returns what gives it again, and its size so far."""
    held: list[Message] = []
    size = 0
    while size <= MAX_BODY_BYTES:
        held.append(await receive())
        size += len(held[-1].get("body", b""))
        if not held[-1].get("more_body", False):
            break
    parts = iter(held)

    async def again() -> Message:
        return next(parts, None) or await receive()

    return again, size


def _error(status: int, text: str) -> JSONResponse:
    return JSONResponse({"error": text}, status)


async def _error_shape(_: Request, error: Exception) -> Response:
    status, detail, headers = (getattr(error, name) for name in ("status_code", "detail", "headers"))
    return JSONResponse({"error": detail}, status, headers)


async def _refuse_body(_: Request, error: Exception) -> Response:
    first = error.errors()[0] if isinstance(error, RequestValidationError) else {"loc": (), "msg": str(error)}
    where = ".".join(str(part) for part in first["loc"] if part not in {"body", "InferenceRequest", "bytes"})
    return _error(400, f"the request is not a V2 inference request: {where or 'body'}: {first['msg']}")
