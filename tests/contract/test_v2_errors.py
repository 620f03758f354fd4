"""Every way to be refused: a status, one line of JSON that says why, and a server that goes on as before."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import grpc
import httpx
import numpy as np
import orjson
import pytest
from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb

from inference_services.protocol import MAX_BODY_BYTES
from tests.contract.conftest import Target
from tests.contract.test_v2_metadata import stub_call
from tests.contract.v2_clients import Refused, as_json, kserve_grpc_raw, kserve_request

JSON = {"content-type": "application/json"}


def infer_path(target: Target) -> str:
    return f"/v2/models/{target.name}/infer"


def content(target: Target) -> bytes:
    return orjson.dumps(as_json(target.rows(1)))


def first_changed(target: Target, **changes: Any) -> bytes:
    """A request whose first tensor is not as it must be."""
    body = as_json(target.rows(2))
    body["inputs"][0].update(changes)
    return orjson.dumps(body)


def chunks_beyond_the_limit() -> Iterator[bytes]:
    piece = b" " * 2**20
    for _ in range(MAX_BODY_BYTES // len(piece) + 1):
        yield piece


# What is asked (method, path, body, headers), with the status and a part of the message.
REFUSED: dict[str, tuple[Callable[[Target], tuple[str, str, Any, dict[str, str]]], int, str]] = {
    "unknown model": (lambda t: ("POST", "/v2/models/another/infer", content(t), JSON), 404, "another"),
    "metadata of an unknown model": (lambda t: ("GET", "/v2/models/another", None, {}), 404, "another"),
    "readiness of an unknown model": (lambda t: ("GET", "/v2/models/another/ready", None, {}), 404, "another"),
    "unknown version": (
        lambda t: ("POST", f"/v2/models/{t.name}/versions/9-ffffffffffff/infer", content(t), JSON),
        404,
        "not served in version '9-ffffffffffff'",
    ),
    "metadata of an unknown version": (lambda t: ("GET", f"/v2/models/{t.name}/versions/9", None, {}), 404, "'9'"),
    "readiness of an unknown version": (
        lambda t: ("GET", f"/v2/models/{t.name}/versions/9/ready", None, {}),
        404,
        "'9'",
    ),
    "version of an unknown model": (
        lambda t: ("POST", f"/v2/models/another/versions/{t.version}/infer", content(t), JSON),
        404,
        "another",
    ),
    "unknown path": (lambda t: ("GET", "/v3/models", None, {}), 404, "Not Found"),
    "wrong method": (lambda t: ("GET", infer_path(t), None, {}), 405, "Method Not Allowed"),
    "not JSON": (lambda t: ("POST", infer_path(t), b'{"inputs": [', JSON), 400, ""),
    "no body": (lambda t: ("POST", infer_path(t), b"", JSON), 400, ""),
    "a list": (lambda t: ("POST", infer_path(t), b"[1]", JSON), 400, ""),
    "not UTF-8": (lambda t: ("POST", infer_path(t), b'{"inputs": "\xff"}', JSON), 400, ""),
    "content type of a form": (
        lambda t: ("POST", infer_path(t), content(t), {"content-type": "application/x-www-form-urlencoded"}),
        400,
        "'application/x-www-form-urlencoded' is not understood",
    ),
    "content type of a text": (
        lambda t: ("POST", infer_path(t), content(t), {"content-type": "text/plain"}),
        400,
        "'text/plain' is not understood",
    ),
    "body above the limit": (
        lambda t: ("POST", infer_path(t), b" " * (MAX_BODY_BYTES + 1), JSON),
        413,
        "more than 33,554,432 bytes",
    ),
    "chunked body above the limit": (
        lambda t: ("POST", infer_path(t), chunks_beyond_the_limit(), JSON),
        413,
        "more than 33,554,432 bytes",
    ),
    "batch above the limit": (
        lambda t: ("POST", infer_path(t), orjson.dumps(as_json(t.rows(1025))), JSON),
        400,
        "has 1025 rows; a request carries 1 to 1024 rows",
    ),
    "tensor of another datatype": (
        lambda t: ("POST", infer_path(t), first_changed(t, datatype="UINT8"), JSON),
        400,
        "must have datatype",
    ),
    "tensor of another shape": (
        lambda t: ("POST", infer_path(t), first_changed(t, shape=[2, 1, 1]), JSON),
        400,
        "must have shape",
    ),
    "fewer values than the shape": (
        lambda t: ("POST", infer_path(t), first_changed(t, data=[]), JSON),
        400,
        "0 values",
    ),
    "no inputs": (lambda t: ("POST", infer_path(t), b'{"inputs": []}', JSON), 400, "no input tensors"),
    "unload": (lambda t: ("POST", f"/v2/repository/models/{t.name}/unload", b"", JSON), 501, "served as deployed"),
    "load": (lambda t: ("POST", f"/v2/repository/models/{t.name}/load", b"", JSON), 501, "served as deployed"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_rest_refuses_with_a_status_and_an_error_in_json(case: str, target: Target):
    request, status, message = REFUSED[case]
    method, path, body, headers = request(target)
    response = httpx.request(method, target.service.url + path, content=body, headers=headers, timeout=30)
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    answer = response.json()
    assert list(answer) == ["error"]
    assert message in answer["error"]
    assert answer["error"]


def test_a_chunked_body_within_the_limit_is_answered(target: Target):
    whole = content(target)
    parts = iter([whole[:10], whole[10:]])
    response = httpx.post(target.service.url + infer_path(target), content=parts, headers=JSON, timeout=30)
    assert response.status_code == 200, response.text


def test_json_is_the_default_content_type(target: Target):
    with httpx.Client(base_url=target.service.url, timeout=30) as client:
        request = client.build_request("POST", infer_path(target), content=content(target))
        assert "content-type" not in request.headers
        assert client.send(request).status_code == 200


def _infer(target: Target, change: Callable[[pb.ModelInferRequest], None]) -> pb.ModelInferRequest:
    message = kserve_request(target.name, target.rows(2), binary=True).to_grpc()
    change(message)
    return message


def _set(field: str, value: Any) -> Callable[[pb.ModelInferRequest], None]:
    return lambda message: setattr(message, field, value)


def _set_first(field: str, value: Any) -> Callable[[pb.ModelInferRequest], None]:
    return lambda message: setattr(message.inputs[0], field, value)


def _reshape(message: pb.ModelInferRequest) -> None:
    message.inputs[0].shape[:] = [2, 1, 1]


def _drop_raw(message: pb.ModelInferRequest) -> None:
    message.raw_input_contents.pop()


GRPC_REFUSED: dict[str, tuple[Callable[[pb.ModelInferRequest], None], str, str]] = {
    "unknown model": (_set("model_name", "another"), "NOT_FOUND", "another"),
    "unknown version": (_set("model_version", "9"), "NOT_FOUND", "not served in version '9'"),
    "datatype that there is not": (_set_first("datatype", "FP99"), "INVALID_ARGUMENT", ""),
    "tensor of another datatype": (_set_first("datatype", "UINT8"), "INVALID_ARGUMENT", "must have datatype"),
    "tensor of another shape": (_reshape, "INVALID_ARGUMENT", "must have shape"),
    "a missing raw tensor": (_drop_raw, "INVALID_ARGUMENT", "raw input contents"),
    "a name twice": (
        lambda m: m.MergeFrom(pb.ModelInferRequest(inputs=[m.inputs[0]], raw_input_contents=[m.raw_input_contents[0]])),
        "INVALID_ARGUMENT",
        "given twice",
    ),
}


@pytest.mark.parametrize("case", GRPC_REFUSED)
def test_grpc_refuses_with_a_status_and_a_reason(case: str, target: Target):
    change, status, message = GRPC_REFUSED[case]
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        stub_call(target, lambda stub: stub.ModelInfer(_infer(target, change), timeout=20))
    assert caught.value.code().name == status, caught.value.details()
    assert message in str(caught.value.details())


def test_grpc_refuses_a_batch_above_the_limit(target: Target):
    with pytest.raises(Refused, match="has 1025 rows") as caught:
        kserve_grpc_raw(target, target.rows(1025))
    assert caught.value.status == "INVALID_ARGUMENT"


def test_grpc_refuses_a_message_above_its_limit(target: Target):
    name = next(iter(target.rows(1)))
    with pytest.raises(Refused) as caught:
        kserve_grpc_raw(target, {name: np.zeros(2**21)})
    assert caught.value.status == "RESOURCE_EXHAUSTED"


@pytest.mark.parametrize("kind", ["Load", "Unload"])
def test_grpc_refuses_to_change_what_is_served(kind: str, target: Target):
    request = getattr(pb, f"RepositoryModel{kind}Request")(model_name=target.name)
    with pytest.raises(grpc.aio.AioRpcError, match="served as deployed") as caught:
        stub_call(target, lambda stub: getattr(stub, f"RepositoryModel{kind}")(request, timeout=20))
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_readiness_of_an_unknown_model_is_not_found_over_grpc(target: Target):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        stub_call(target, lambda stub: stub.ModelReady(pb.ModelReadyRequest(name="another"), timeout=20))
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


def test_refusals_leave_no_traceback_and_the_service_ready(target: Target):
    for case in ("unknown model", "unknown version", "not JSON", "wrong method", "unload"):
        test_rest_refuses_with_a_status_and_an_error_in_json(case, target)
    test_grpc_refuses_with_a_status_and_a_reason("unknown version", target)
    assert httpx.get(f"{target.service.url}/v2/health/ready", timeout=10).status_code == 200
    assert httpx.post(
        target.service.url + infer_path(target), content=content(target), headers=JSON, timeout=30
    ).is_success
    assert "Traceback" not in target.service.log.read_text()
