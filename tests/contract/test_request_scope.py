"""Every request has an id, in its answer and its headers, and is counted alike on KServe's path and on ours."""

from __future__ import annotations

import re
from typing import Any

import grpc
import httpx
import pytest
from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb
from kserve.protocol.grpc.grpc_predict_v2_pb2_grpc import GRPCInferenceServiceStub

from inference_services.bundle import Bundle
from tests.contract.conftest import DETECTOR as NAME
from tests.contract.conftest import Service
from tests.contract.test_lightgbm_predictor import body, make_rows

PATH = f"/v2/models/{NAME}/infer"
REVISION = "fraud-detector-00001"


def post(service: Service, content: Any, headers: dict[str, str] | None = None) -> httpx.Response:
    return httpx.post(f"{service.url}{PATH}", json=content, headers=headers, timeout=10)


def post_through_kserve(service: Service, content: Any, headers: dict[str, str] | None = None) -> httpx.Response:
    """A header that a CloudEvent would have is not plain enough for our own path."""
    return post(service, content, {"ce-none": "1", **(headers or {})})


@pytest.mark.parametrize("send", [post, post_through_kserve])
def test_the_body_names_the_request_first(send: Any, predictor: Service):
    answer = send(predictor, body(make_rows(1), id="a-7"), {"x-request-id": "b-8"})
    assert (answer.json()["id"], answer.headers["x-request-id"]) == ("a-7", "a-7")


@pytest.mark.parametrize("send", [post, post_through_kserve])
def test_then_the_header_does_and_else_the_service(send: Any, predictor: Service):
    answer = send(predictor, body(make_rows(1)), {"x-request-id": "b-8"})
    assert (answer.json()["id"], answer.headers["x-request-id"]) == ("b-8", "b-8")
    made = send(predictor, body(make_rows(1)))
    assert made.json()["id"] == made.headers["x-request-id"]
    assert re.fullmatch("[0-9a-f]{32}", made.json()["id"])


def test_an_id_that_no_header_can_carry_is_echoed_in_the_body_alone(predictor: Service):
    answer = post(predictor, body(make_rows(1), id="شناسه\n1"))
    assert answer.json()["id"] == "شناسه\n1"
    assert re.fullmatch("[0-9a-f]{32}", answer.headers["x-request-id"])


def test_a_refused_request_carries_its_id_too(predictor: Service):
    answer = post(predictor, {"id": "c-9", "inputs": []})
    assert (answer.status_code, answer.headers["x-request-id"]) == (400, "c-9")


def call_grpc(service: Service, request: pb.ModelInferRequest, *metadata: tuple[str, str]) -> tuple[Any, str]:
    """The answer or the error, and the request id beside it."""
    with grpc.insecure_channel(service.grpc) as channel:
        try:
            answer, call = GRPCInferenceServiceStub(channel).ModelInfer.with_call(
                request, metadata=metadata, timeout=10
            )
        except grpc.RpcError as error:
            answer = call = error
        return answer, dict(call.trailing_metadata())["x-request-id"]


def grpc_request(columns: dict[str, Any], **fields: str) -> pb.ModelInferRequest:
    request = pb.ModelInferRequest(model_name=NAME, **fields)
    for name, values in columns.items():
        tensor = request.inputs.add(name=name, datatype="FP64", shape=[len(values)])
        if values.dtype == object:
            tensor.datatype = "BYTES"
            tensor.contents.bytes_contents.extend(value.encode() for value in values)
        else:
            tensor.contents.fp64_contents.extend(values)
    return request


def test_grpc_names_the_request_likewise(predictor: Service):
    answer, told = call_grpc(predictor, grpc_request(make_rows(1), id="g-1"), ("x-request-id", "g-2"))
    assert (answer.id, told) == ("g-1", "g-1")
    answer, told = call_grpc(predictor, grpc_request(make_rows(1)), ("x-request-id", "g-2"))
    assert (answer.id, told) == ("g-2", "g-2")
    error, told = call_grpc(predictor, grpc_request({}, id="g-3"))
    assert (error.code(), told) == (grpc.StatusCode.INVALID_ARGUMENT, "g-3")


def series(service: Service) -> dict[str, float]:
    lines = httpx.get(f"{service.url}/metrics", timeout=10).text.splitlines()
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[0] != "#")}


def counted(service: Service, work: Any) -> dict[str, float]:
    """By how much each count rose, of those that are not times."""
    before = series(service)
    work()
    after = series(service)
    kept = re.compile(r"(fraud_|request_).*(_count|_total|_bucket)\b")
    times = re.compile(r"_seconds_bucket")
    names = [n for n in after if kept.match(n) and not times.search(n)]
    return {name: after[name] - before.get(name, 0.0) for name in names if after[name] != before.get(name, 0.0)}


def test_both_paths_count_the_same(predictor: Service):
    requests = [
        body(make_rows(3)),
        body(make_rows(40)),
        body(make_rows(1), outputs=[{"name": "probability"}]),
        body(make_rows(1), outputs=[{"name": "fame"}]),
        {"inputs": []},
        {"inputs": 3},
    ]

    def all_through(send: Any) -> Any:
        return lambda: [send(predictor, content) for content in requests]

    ours, kserves = (counted(predictor, all_through(send)) for send in (post, post_through_kserve))
    assert ours == kserves
    answered = {name: n for name, n in ours.items() if name.startswith("fraud_requests_total")}
    assert sorted(answered.values()) == [3, 3]
    assert all('protocol="rest"' in name for name in answered)
    assert {n for name, n in ours.items() if name.startswith("fraud_probability_count")} == {3 + 40 + 1}
    assert any("request_predict_seconds_count" in name for name in ours)


def test_outcomes_are_counted_by_protocol(predictor: Service):
    def work() -> None:
        call_grpc(predictor, grpc_request(make_rows(1)))
        call_grpc(predictor, grpc_request({}))
        httpx.post(f"{predictor.url}/v2/models/nobody/infer", json=body(make_rows(1)))

    rose = counted(predictor, work)
    outcomes = {
        tuple(re.findall(r'(?:outcome|protocol)="(\w+)"', name)): n
        for name, n in rose.items()
        if name.startswith("fraud_requests_total")
    }
    assert outcomes == {("ok", "grpc"): 1, ("invalid", "grpc"): 1, ("not_found", "rest"): 1}


def test_metrics_name_the_bundle_and_hold_no_request(predictor: Service, lightgbm_bundle: Bundle):
    post(predictor, body(make_rows(1), id="secret-id"), {"x-request-id": "other-id"})
    found = series(predictor)
    labels = (
        f'model="{NAME}",model_version="0-{lightgbm_bundle.sha12}",revision="{REVISION}",service="lightgbm_predictor"'
    )
    assert found[f"fraud_bundle_info{{{labels}}}"] == 1
    assert all(n == 0 for name, n in found.items() if name.startswith("fraud_requests_in_flight{"))
    assert any(name.startswith("process_resident_memory_bytes") for name in found)
    assert not any("-id" in name for name in found)
