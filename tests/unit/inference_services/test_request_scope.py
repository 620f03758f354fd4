"""What surrounds a request when the application behind it misbehaves."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from uuid import uuid4

import grpc
import httpx
import pytest
from fastapi import FastAPI
from kserve.errors import generic_exception_handler
from kserve.protocol.grpc.grpc_predict_v2_pb2 import ModelInferRequest, ModelInferResponse
from prometheus_client import REGISTRY

from inference_services.application import ServiceApplication
from inference_services.asgi import Send
from inference_services.grpc_scope import INFER, RequestScopeInterceptor
from inference_services.metrics import CallMetrics
from inference_services.request_context import current
from inference_services.request_scope import RequestScope, Uncaught
from inference_services.served import Served

Application = Callable[..., Awaitable[None]]


@pytest.fixture
def served() -> Served:
    """Series of its own for each test."""
    return Served("test", uuid4().hex, "0-abc", "")


def outcomes(served: Served, protocol: str) -> dict[str, float]:
    """How many requests ended how."""
    found = {}
    for outcome in ("ok", "invalid", "shed", "unavailable", "cancelled", "error"):
        labels = {**served.labels(), "protocol": protocol, "outcome": outcome}
        found[outcome] = REGISTRY.get_sample_value("fraud_requests_total", labels) or 0.0
    return {outcome: n for outcome, n in found.items() if n}


def answering(status: int, headers: list[tuple[bytes, bytes]] | None = None) -> Application:
    async def app(_scope: object, _receive: object, send: Send) -> None:
        await send({"type": "http.response.start", "status": status, "headers": headers or []})
        await send({"type": "http.response.body", "body": b""})

    return app


async def post(app: Application, served: Served) -> httpx.Response:
    transport = httpx.ASGITransport(RequestScope(app, CallMetrics(served), served))  # type: ignore[arg-type]
    async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
        return await client.post("/v2/models/m/infer", headers={"x-request-id": "try-1"}, content=b"{}")


async def test_an_error_is_logged_once_and_answered_without_what_it_says(
    served: Served, caplog: pytest.LogCaptureFixture
):
    async def app(*_: object) -> None:
        raise KeyError("r1-00000000000000aa")

    answer = await post(app, served)
    assert (answer.status_code, answer.headers["x-request-id"]) == (500, "try-1")
    assert "try-1" in answer.json()["error"]
    assert "r1-" not in answer.text
    assert [record.getMessage() for record in caplog.records] == ["a request failed"]
    assert outcomes(served, "rest") == {"error": 1}
    assert current() is None


async def test_an_error_in_kserve_s_routes_is_answered_in_the_same_way(
    served: Served, caplog: pytest.LogCaptureFixture
):
    """FastAPI's handler of last resort, as KServe sets it, would quote it."""
    app = ServiceApplication.like(FastAPI())
    app.add_exception_handler(Exception, generic_exception_handler)
    app.add_middleware(Uncaught)

    @app.post("/v2/models/m/infer")
    async def fail() -> None:
        raise KeyError("r1-00000000000000aa")

    answer = await post(app, served)
    assert (answer.status_code, answer.headers["x-request-id"]) == (500, "try-1")
    assert "r1-" not in answer.text
    assert [record.getMessage() for record in caplog.records] == ["a request failed"]
    assert outcomes(served, "rest") == {"error": 1}


@pytest.mark.parametrize(
    ("status", "headers", "outcome"),
    [
        (200, [], "ok"),
        (413, [], "invalid"),
        (429, [], "shed"),
        (503, [], "unavailable"),
        (503, [(b"retry-after", b"1")], "shed"),
        (500, [], "error"),
    ],
)
async def test_statuses_are_outcomes(status: int, headers: list[tuple[bytes, bytes]], outcome: str, served: Served):
    assert (await post(answering(status, headers), served)).status_code == status
    assert outcomes(served, "rest") == {outcome: 1}


async def test_a_caller_that_leaves_is_counted_as_such(served: Served):
    async def app(*_: object) -> None:
        """Ends without an answer, as ours does when the body does not come."""

    scope = {"type": "http", "method": "POST", "path": "/v2/models/m/infer", "headers": []}
    await RequestScope(app, CallMetrics(served), served)(scope, None, None)  # type: ignore[arg-type]
    assert outcomes(served, "rest") == {"cancelled": 1}
    in_flight = REGISTRY.get_sample_value("fraud_requests_in_flight", served.labels())
    assert in_flight == 0


async def call_grpc(served: Served, fail: Callable[[grpc.aio.ServicerContext], Awaitable[None]]) -> grpc.StatusCode:
    async def infer(request: ModelInferRequest, context: grpc.aio.ServicerContext) -> ModelInferResponse:
        await fail(context)
        return ModelInferResponse(id=request.id)

    server = grpc.aio.server(interceptors=[RequestScopeInterceptor(CallMetrics(served), served)])
    handler = grpc.unary_unary_rpc_method_handler(
        infer, ModelInferRequest.FromString, ModelInferResponse.SerializeToString
    )
    service, method = INFER.strip("/").split("/")
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(service, {method: handler})])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.unary_unary(INFER, ModelInferRequest.SerializeToString, ModelInferResponse.FromString)
        asked = call(ModelInferRequest(id="try-2"))
        code = await asked.code()
        assert dict(await asked.trailing_metadata())["x-request-id"] == "try-2"
    await server.stop(None)
    return code


async def test_grpc_errors_are_outcomes_too(served: Served, caplog: pytest.LogCaptureFixture):
    async def fails(_: grpc.aio.ServicerContext) -> None:
        raise KeyError("broken")

    async def sheds(context: grpc.aio.ServicerContext) -> None:
        await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "too much")

    async def answers(_: grpc.aio.ServicerContext) -> None:
        """Does nothing wrong."""

    with caplog.at_level(logging.CRITICAL):
        codes = [await call_grpc(served, fail) for fail in (fails, sheds, answers)]
    assert codes == [grpc.StatusCode.UNKNOWN, grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.OK]
    assert outcomes(served, "grpc") == {"error": 1, "shed": 1, "ok": 1}
