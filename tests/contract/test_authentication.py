"""A server with a token file answers those who send a token, whichever client they use, and probes and scrapers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
import tritonclient.http
import tritonclient.utils
from kserve import InferenceGRPCClient, InferenceRESTClient, RESTConfig
from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb
from kserve.protocol.grpc.grpc_predict_v2_pb2_grpc import GRPCInferenceServiceStub

from inference_services.bundle import Bundle
from tests.contract.conftest import DETECTOR as NAME
from tests.contract.conftest import ROOT, Service, StartService, make_rows
from tests.contract.test_lightgbm_predictor import body, run_once
from tests.contract.v2_clients import kserve_request, triton_inputs

TOKEN, NEXT = "a-token-" + "7" * 32, "the-next-" + "8" * 32
ALLOWED = {"authorization": f"Bearer {TOKEN}"}
REFUSED = [{}, {"authorization": "Bearer " + "x" * 40}, {"authorization": f"Basic {TOKEN}"}]


@pytest.fixture(scope="module")
def token_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tokens") / "tokens"
    path.write_text(f"{TOKEN}\n")
    return path


@pytest.fixture(scope="module")
def guarded(start_service: StartService, lightgbm_bundle: Bundle, token_file: Path) -> Service:
    module = "inference_services.lightgbm_predictor"
    env = {"FRAUD_SERVER_TOKEN_FILE": str(token_file)}
    return start_service(module, NAME, f"--model_dir={lightgbm_bundle.folder}", env=env)


def post(service: Service, headers: dict[str, str]) -> httpx.Response:
    return httpx.post(f"{service.url}/v2/models/{NAME}/infer", json=body(make_rows(1)), headers=headers, timeout=10)


def test_rest_needs_a_token(guarded: Service):
    assert post(guarded, ALLOWED).status_code == 200
    challenges = []
    for headers in REFUSED:
        answer = post(guarded, headers)
        assert answer.status_code == 401
        assert "bearer token is needed" in answer.json()["error"]
        assert answer.headers["x-request-id"]
        challenges.append(answer.headers["www-authenticate"])
    assert challenges == ["Bearer", 'Bearer error="invalid_token"', 'Bearer error="invalid_token"']


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", f"/v1/models/{NAME}:predict"),
        ("POST", "/metrics"),
        ("GET", f"/v2/models/{NAME}"),
        ("GET", "/v2"),
        ("GET", "//metrics"),
        ("GET", "/nothing"),
    ],
)
def test_everything_else_needs_one_too(method: str, path: str, guarded: Service):
    assert httpx.request(method, guarded.url + path).status_code == 401
    assert httpx.request(method, guarded.url + path, headers=ALLOWED).status_code != 401


@pytest.mark.parametrize("path", ["/", "/metrics", "/v2/health/live", "/v2/health/ready", f"/v2/models/{NAME}/ready"])
def test_probes_and_scrapers_need_none(path: str, guarded: Service):
    assert httpx.get(guarded.url + path).status_code == 200


async def test_kserve_clients_send_it(guarded: Service):
    request = kserve_request(NAME, make_rows(1), binary=True)
    rest = InferenceRESTClient(RESTConfig(protocol="v2", retries=1, timeout=10))
    assert await rest.infer(guarded.url, request, headers=dict(ALLOWED), model_name=NAME)
    with pytest.raises(httpx.HTTPStatusError, match="401"):
        await rest.infer(guarded.url, request, model_name=NAME)
    await rest.close()
    client = InferenceGRPCClient(guarded.grpc, timeout=10)
    assert await client.is_server_ready()
    assert await client.is_model_ready(NAME)
    assert await client.infer(request, headers=list(ALLOWED.items()))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await client.infer(request)
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
    await client.close()


def test_grpc_metadata_and_unknown_methods_need_one(guarded: Service):
    with grpc.insecure_channel(guarded.grpc) as channel:
        stub = GRPCInferenceServiceStub(channel)
        with pytest.raises(grpc.RpcError) as caught:
            stub.ModelMetadata(pb.ModelMetadataRequest(name=NAME), timeout=10)
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
        assert stub.ServerLive(pb.ServerLiveRequest(), timeout=10).live


def test_triton_http_client_sends_it(guarded: Service):
    with tritonclient.http.InferenceServerClient(f"127.0.0.1:{guarded.http_port}") as client:
        assert client.is_server_ready()
        inputs = triton_inputs(make_rows(1))
        assert client.infer(NAME, inputs, headers=dict(ALLOWED)).as_numpy("probability").shape == (1,)
        with pytest.raises(tritonclient.utils.InferenceServerException, match="bearer token is needed"):
            client.infer(NAME, inputs)


# In a process of its own: its protocol buffers and KServe's have the same names.
TRITON_GRPC = """
import json, sys
import numpy as np
from tritonclient.grpc import InferenceServerClient, InferInput
from tritonclient.utils import InferenceServerException
address, name, columns, headers = sys.argv[1], sys.argv[2], json.loads(sys.argv[3]), json.loads(sys.argv[4])
inputs = []
for column, values in columns.items():
    text = isinstance(values[0], str)
    tensor = InferInput(column, [len(values)], "BYTES" if text else "FP64")
    tensor.set_data_from_numpy(np.array(values, object if text else float))
    inputs.append(tensor)
client = InferenceServerClient(address)
try:
    print(client.infer(name, inputs, headers=headers).as_numpy("probability").shape)
except InferenceServerException as error:
    print(error.status())
"""


@pytest.mark.parametrize(("headers", "expected"), [(ALLOWED, "(1,)"), ({}, "StatusCode.UNAUTHENTICATED")])
def test_triton_grpc_client_sends_it(headers: dict[str, str], expected: str, guarded: Service):
    columns = json.dumps({name: values.tolist() for name, values in make_rows(1).items()})
    command: list[Any] = [sys.executable, "-c", TRITON_GRPC, guarded.grpc, NAME, columns, json.dumps(headers)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert ended.stdout.strip() == expected, ended.stderr


def test_refusals_are_counted(guarded: Service):
    def refused() -> dict[str, float]:
        lines = httpx.get(f"{guarded.url}/metrics").text.splitlines()
        found = [line for line in lines if line.startswith("fraud_requests_total") and "unauthenticated" in line]
        return {line.split('protocol="')[1][:4]: float(line.rpartition(" ")[2]) for line in found}

    before = refused()
    post(guarded, {})
    with grpc.insecure_channel(guarded.grpc) as channel, pytest.raises(grpc.RpcError):
        GRPCInferenceServiceStub(channel).ModelInfer(pb.ModelInferRequest(model_name=NAME), timeout=10)
    assert refused() == {protocol: n + 1 for protocol, n in before.items()}


def test_a_rotated_token_is_taken_up_without_a_restart(guarded: Service, token_file: Path):
    coming = {"authorization": f"Bearer {NEXT}"}
    try:
        other = token_file.with_suffix(".new")
        other.write_text(f"{TOKEN}\n{NEXT}\n")
        os.replace(other, token_file)
        deadline = time.monotonic() + 20
        while post(guarded, coming).status_code != 200:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert post(guarded, ALLOWED).status_code == 200
    finally:
        token_file.write_text(f"{TOKEN}\n")
    assert TOKEN not in guarded.log.read_text()
    assert NEXT not in guarded.log.read_text()


def test_a_short_token_stops_the_start(tmp_path: Path, lightgbm_bundle: Bundle, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "tokens"
    path.write_text("secret\n")
    monkeypatch.setenv("FRAUD_SERVER_TOKEN_FILE", str(path))
    ended = run_once(f"--model_dir={lightgbm_bundle.folder}")
    assert ended.returncode == 1
    assert "is shorter than 32 characters" in ended.stderr
    assert "secret" not in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
