"""What the services say about themselves: metadata, readiness, liveness, versions; by REST, gRPC and their clients."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from importlib.metadata import version
from typing import Any

import grpc
import httpx
import tritonclient.http
from kserve import InferenceGRPCClient, InferenceRESTClient, RESTConfig
from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb
from kserve.protocol.grpc.grpc_predict_v2_pb2_grpc import GRPCInferenceServiceStub

from tests.contract.conftest import Target
from tests.contract.v2_clients import TritonGrpc, as_json, datatype, kserve_grpc_raw

SERVER = {"name": "kserve", "version": version("kserve"), "extensions": ["binary_tensor_data"]}


def get(target: Target, path: str) -> httpx.Response:
    return httpx.get(target.service.url + path, timeout=10)


def stub_call(target: Target, call: Callable[[Any], Awaitable[Any]]) -> Any:
    async def run() -> Any:
        async with grpc.aio.insecure_channel(target.service.grpc) as channel:
            return await call(GRPCInferenceServiceStub(channel))

    return asyncio.run(run())


def test_rest_tells_the_server_and_the_model(target: Target):
    assert get(target, "/v2").json() == SERVER
    assert get(target, "/v2/health/live").json() == {"live": True}
    assert get(target, "/v2/health/ready").json() == {"ready": True}
    assert get(target, "/v2/models").json() == {"models": [target.name]}
    assert get(target, f"/v2/models/{target.name}/ready").json() == {"name": target.name, "ready": True}
    metadata = get(target, f"/v2/models/{target.name}").json()
    assert (metadata["name"], metadata["versions"]) == (target.name, [target.version])


def test_metadata_describes_every_tensor_that_is_sent_and_answered(target: Target):
    metadata = get(target, f"/v2/models/{target.name}").json()
    described = {tensor["name"]: tensor for tensor in metadata["inputs"]}
    for name, values in target.rows(3).items():
        assert described[name]["datatype"] == datatype(values)
        assert len(described[name]["shape"]) == values.ndim
        assert all(size in {-1, given} for size, given in zip(described[name]["shape"], values.shape, strict=True))
    assert {tensor["name"] for tensor in metadata["outputs"]} == {*target.outputs, *target.optional}
    answer = httpx.post(
        f"{target.service.url}/v2/models/{target.name}/infer",
        json=as_json(target.rows(2), (*target.outputs, *target.optional)),
        timeout=30,
    ).json()
    datatypes = {tensor["name"]: tensor["datatype"] for tensor in metadata["outputs"]}
    assert {output["name"]: output["datatype"] for output in answer["outputs"]} == datatypes


def test_grpc_tells_the_same(target: Target):
    told = stub_call(target, lambda stub: stub.ServerMetadata(pb.ServerMetadataRequest()))
    assert (told.name, told.version, list(told.extensions)) == tuple(SERVER.values())
    assert stub_call(target, lambda stub: stub.ServerLive(pb.ServerLiveRequest())).live
    assert stub_call(target, lambda stub: stub.ServerReady(pb.ServerReadyRequest())).ready
    assert stub_call(target, lambda stub: stub.ModelReady(pb.ModelReadyRequest(name=target.name))).ready
    model = stub_call(target, lambda stub: stub.ModelMetadata(pb.ModelMetadataRequest(name=target.name)))
    by_rest = get(target, f"/v2/models/{target.name}").json()
    for told_tensors, tensors in ((model.inputs, by_rest["inputs"]), (model.outputs, by_rest["outputs"])):
        assert [{"name": t.name, "datatype": t.datatype, "shape": list(t.shape)} for t in told_tensors] == tensors


def test_triton_http_client_finds_it_ready(target: Target):
    with tritonclient.http.InferenceServerClient(f"127.0.0.1:{target.service.http_port}") as client:
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready(target.name)
        assert client.is_model_ready(target.name, target.version)
        assert not client.is_model_ready(target.name, "another")
        assert not client.is_model_ready("another")
        assert client.get_server_metadata() == SERVER
        assert client.get_model_metadata(target.name, target.version)["versions"] == [target.version]


def test_triton_grpc_client_finds_it_ready(target: Target, triton_grpc: TritonGrpc):
    def call(method: str, **arguments: str) -> Any:
        return triton_grpc.call(target, method, arguments)

    assert call("is_server_live")
    assert call("is_server_ready")
    assert call("is_model_ready", model_name=target.name)
    assert call("get_server_metadata") == SERVER
    assert call("get_model_metadata", model_name=target.name)["name"] == target.name


async def test_kserve_clients_find_it_ready(target: Target):
    url = target.service.url
    async with InferenceRESTClient(RESTConfig(protocol="v2", retries=1, timeout=10)) as rest:
        assert await rest.is_server_live(url)
        assert await rest.is_server_ready(url)
        assert await rest.is_model_ready(url, target.name)
        assert not await rest.is_model_ready(url, "another")
    async with InferenceGRPCClient(target.service.grpc, timeout=10) as client:
        assert await client.is_server_live()
        assert await client.is_server_ready()
        assert await client.is_model_ready(target.name)


def test_versioned_paths_serve_the_version_that_is_loaded(target: Target):
    path = f"/v2/models/{target.name}/versions/{target.version}"
    assert get(target, path).json() == get(target, f"/v2/models/{target.name}").json()
    assert get(target, f"{path}/ready").json()["ready"]
    content = as_json(target.rows(2))
    answers = [
        httpx.post(target.service.url + base + "/infer", json=content, timeout=30).json()
        for base in (path, f"/v2/models/{target.name}")
    ]
    assert answers[0]["model_version"] == target.version
    assert answers[0]["outputs"] == answers[1]["outputs"]


def test_grpc_serves_the_version_that_is_loaded(target: Target):
    assert kserve_grpc_raw(target, target.rows(1), version=target.version).model_version == target.version
