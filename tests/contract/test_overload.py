"""More than a server can do: what it takes on is answered, the rest is told to come again, and health is answered."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import httpx
import orjson
import pytest
from kserve import InferInput, InferRequest
from kserve.protocol.grpc.grpc_predict_v2_pb2_grpc import GRPCInferenceServiceStub

from inference_services.bundle import Bundle
from inference_services.lightgbm_predictor.scorer import LightGbmScorer
from tests.contract.conftest import DETECTOR as NAME
from tests.contract.conftest import Service, StartService, make_rows
from tests.contract.test_lightgbm_predictor import body
from tests.load import Client, get, post, statuses

TAKEN_ON = 2
BURST = 60
ROWS = 300


@pytest.fixture(scope="module")
def busy(start_service: StartService, lightgbm_bundle: Bundle) -> Service:
    """A predictor that takes two requests on at a time."""
    env = {f"FRAUD_SERVER_{name}_IN_FLIGHT": str(TAKEN_ON) for name in ("LEAST", "START", "MOST")}
    return start_service(
        "inference_services.lightgbm_predictor", NAME, f"--model_dir={lightgbm_bundle.folder}", env=env
    )


def metric(service: Service, name: str, **labels: str) -> float:
    lines = httpx.get(f"{service.url}/metrics", timeout=10).text.splitlines()
    chosen = [line for line in lines if line.startswith(name) and all(f'{k}="{v}"' in line for k, v in labels.items())]
    return sum(float(line.rsplit(" ", 1)[1]) for line in chosen)


async def test_what_is_too_much_is_told_so_and_the_rest_is_answered(busy: Service, lightgbm_bundle: Bundle):
    rows = make_rows(ROWS, seed=7)
    request = post(f"/v2/models/{NAME}/infer", orjson.dumps(body(rows)))
    client = Client(busy.http_port)
    before = metric(busy, "fraud_requests_total", outcome="shed", protocol="rest")
    burst = asyncio.gather(*(client.send(request) for _ in range(BURST)))
    health = [await client.send(get(path)) for path in ("/v2/health/live", "/v2/health/ready", "/metrics") * 3]
    replies = await burst
    client.close()
    assert set(statuses(replies)) == {200, 429}
    assert {reply.status for reply in health} == {200}
    refused = [reply for reply in replies if reply.status == 429]
    assert {reply.headers["retry-after"] for reply in refused} == {"1"}
    assert all("overloaded" in orjson.loads(reply.body)["error"] for reply in refused)
    scorer = LightGbmScorer.load(lightgbm_bundle.folder)
    expected = scorer.score(scorer.encode(rows, ROWS)).probability.tolist()
    for reply in replies:
        if reply.status == 200:
            outputs = {output["name"]: output["data"] for output in orjson.loads(reply.body)["outputs"]}
            assert outputs["probability"] == expected
    assert metric(busy, "fraud_requests_total", outcome="shed", protocol="rest") == before + len(refused)
    assert metric(busy, "fraud_requests_in_flight_limit") == TAKEN_ON


async def test_grpc_is_told_too(busy: Service):
    inputs = []
    for name, values in make_rows(ROWS, seed=7).items():
        tensor = InferInput(name, [ROWS], "BYTES" if values.dtype == object else "FP64")
        tensor.set_data_from_numpy(values)
        inputs.append(tensor)
    request = InferRequest(model_name=NAME, infer_inputs=inputs).to_grpc()

    async with grpc.aio.insecure_channel(busy.grpc) as channel:
        stub = GRPCInferenceServiceStub(channel)

        async def call() -> Any:
            try:
                return await stub.ModelInfer(request, timeout=60)
            except grpc.aio.AioRpcError as error:
                return error

        replies = await asyncio.gather(*(call() for _ in range(BURST)))
    refused = [reply for reply in replies if isinstance(reply, grpc.aio.AioRpcError)]
    assert 0 < len(refused) < BURST
    assert {error.code() for error in refused} == {grpc.StatusCode.RESOURCE_EXHAUSTED}
    told = [dict(error.trailing_metadata()) for error in refused]
    assert all(metadata["retry-after"] == "1" and metadata["x-request-id"] for metadata in told)
    assert metric(busy, "fraud_requests_total", outcome="shed", protocol="grpc") == len(refused)


async def test_afterwards_everything_is_taken_on_again(busy: Service):
    client = Client(busy.http_port)
    request = post(f"/v2/models/{NAME}/infer", orjson.dumps(body(make_rows(1))))
    assert [(await client.send(request)).status for _ in range(20)] == [200] * 20
    client.close()
