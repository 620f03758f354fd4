"""The clients that users of the V2 protocol have, each as one function with the same arguments and answer."""

from __future__ import annotations

import asyncio
import json
import logging
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import grpc
import httpx
import numpy as np
import tritonclient.http
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest, RESTConfig
from kserve.protocol.infer_type import RequestedOutput
from tritonclient.utils import InferenceServerException

from tests.contract.conftest import ROOT, Target

Arrays = Mapping[str, np.ndarray]
DATATYPES = {"f8": "FP64", "f4": "FP32", "i8": "INT64", "b1": "BOOL", "O": "BYTES"}
TIMEOUT_S = 30
# Its own line for every status that is not a success.
logging.getLogger("kserve").setLevel(logging.CRITICAL)


@dataclass(frozen=True)
class Reply:
    id: str
    model_name: str
    model_version: str
    outputs: dict[str, list[Any]]


class Refused(Exception):
    """The server refused the request.

    Args:
        status: HTTP status as text, or the name of the gRPC status.
        message: what the client was told.
    """

    def __init__(self, status: str, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status
        self.message = message


Client = Callable[..., Reply]


def datatype(values: np.ndarray) -> str:
    return DATATYPES[values.dtype.str.lstrip("<|")]


def as_json(inputs: Arrays, outputs: Sequence[str] = (), request_id: str = "") -> dict[str, Any]:
    """A request in JSON, of finite values."""
    tensors = [
        {"name": name, "datatype": datatype(values), "shape": list(values.shape), "data": values.ravel().tolist()}
        for name, values in inputs.items()
    ]
    wanted = {"outputs": [{"name": name} for name in outputs]} if outputs else {}
    return {**({"id": request_id} if request_id else {}), "inputs": tensors, **wanted}


def texts(values: Any) -> list[Any]:
    """A tensor as a list, with bytes as text."""
    return [v.decode() if isinstance(v, bytes) else v for v in np.asarray(values).tolist()]


def _of_json(answer: dict[str, Any]) -> Reply:
    outputs = {o["name"]: texts(np.reshape(o["data"], o["shape"])) for o in answer["outputs"]}
    return Reply(answer["id"], answer["model_name"], answer["model_version"], outputs)


def curl(target: Target, inputs: Arrays, outputs: Sequence[str] = (), request_id: str = "") -> Reply:
    url = f"{target.service.url}/v2/models/{target.name}/infer"
    command = ["curl", "-sS", "-m", str(TIMEOUT_S), "-w", "\n%{http_code}", "--data-binary", "@-"]
    command += ["-H", "content-type: application/json", url]
    content = json.dumps(as_json(inputs, outputs, request_id))
    ended = subprocess.run(command, input=content, capture_output=True, text=True, check=True)
    answer, _, status = ended.stdout.rpartition("\n")
    if status != "200":
        raise Refused(status, json.loads(answer)["error"])
    return _of_json(json.loads(answer))


def triton_inputs(inputs: Arrays, *, binary: bool = True) -> list[Any]:
    given = []
    for name, values in inputs.items():
        tensor = tritonclient.http.InferInput(name, values.shape, datatype(values))
        tensor.set_data_from_numpy(values, binary_data=binary)
        given.append(tensor)
    return given


def _triton_http(
    target: Target, inputs: Arrays, outputs: Sequence[str] = (), request_id: str = "", *, binary: bool
) -> Reply:
    given = triton_inputs(inputs, binary=binary)
    wanted = [tritonclient.http.InferRequestedOutput(name, binary_data=binary) for name in outputs]
    with tritonclient.http.InferenceServerClient(f"127.0.0.1:{target.service.http_port}") as client:
        try:
            answer = client.infer(target.name, given, outputs=wanted or None, request_id=request_id)
        except InferenceServerException as error:
            raise Refused(str(error.status()), str(error.message())) from None
        told = answer.get_response()
        # A client that names no outputs leaves it to the server, which may answer in binary.
        found = {o["name"]: texts(answer.as_numpy(o["name"])) for o in told["outputs"]}
        assert all(("data" in o) != binary for o in told["outputs"])
        return Reply(told["id"], told["model_name"], told["model_version"], found)


def triton_http_binary(target: Target, inputs: Arrays, outputs: Sequence[str] = (), request_id: str = "") -> Reply:
    return _triton_http(target, inputs, outputs, request_id, binary=True)


def triton_http_json(target: Target, inputs: Arrays, outputs: Sequence[str] = (), request_id: str = "") -> Reply:
    return _triton_http(target, inputs, outputs or target.outputs, request_id, binary=False)


class TritonGrpc:
    """tritonclient's gRPC client in a process of its own (see `triton_grpc_calls.py`)."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def __call__(self, target: Target, inputs: Arrays, outputs: Sequence[str] = (), request_id: str = "") -> Reply:
        request = as_json(inputs, outputs, request_id)
        return Reply(**self.call(target, "infer", {"model": target.name, "request": request}))

    def call(self, target: Target, method: str, arguments: Mapping[str, Any]) -> Any:
        """Sends one line and reads one."""
        assert self._process.stdin
        assert self._process.stdout
        line = {"address": target.service.grpc, "method": method, "arguments": dict(arguments)}
        self._process.stdin.write(json.dumps(line) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        if "status" in answer:
            raise Refused(answer["status"].removeprefix("StatusCode."), answer["message"])
        return answer["result"]


@contextmanager
def triton_grpc_process() -> Iterator[TritonGrpc]:
    command = [sys.executable, "-m", "tests.contract.triton_grpc_calls"]
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with process:
        yield TritonGrpc(process)
        assert process.stdin
        process.stdin.close()


def kserve_request(
    model: str,
    inputs: Arrays,
    outputs: Sequence[str] = (),
    request_id: str = "",
    *,
    binary: bool,
    version: str | None = None,
) -> InferRequest:
    given = []
    for name, values in inputs.items():
        tensor = InferInput(name, list(values.shape), datatype(values))
        tensor.set_data_from_numpy(values, binary_data=binary)
        given.append(tensor)
    wanted = [RequestedOutput(name) for name in outputs]
    return InferRequest(
        model,
        given,
        request_id=request_id or None,
        request_outputs=wanted or None,
        model_version=version,
    )


def _of_kserve(answer: Any) -> Reply:
    outputs = {o.name: texts(o.as_numpy()) for o in answer.outputs}
    return Reply(answer.id, answer.model_name, answer.model_version or "", outputs)


def _kserve_rest(
    target: Target, inputs: Arrays, outputs: Sequence[str] = (), request_id: str = "", *, binary: bool
) -> Reply:
    async def call() -> Reply:
        async with InferenceRESTClient(RESTConfig(protocol="v2", retries=1, timeout=TIMEOUT_S)) as client:
            request = kserve_request(target.name, inputs, outputs, request_id, binary=binary)
            try:
                answer = await client.infer(target.service.url, request, model_name=target.name)
            except httpx.HTTPStatusError as error:
                raise Refused(str(error.response.status_code), str(error)) from None
            # KServe 0.21 drops the version when it reads an answer from REST.
            return Reply(**{**_of_kserve(answer).__dict__, "model_version": target.version})

    return asyncio.run(call())


def kserve_rest_json(target: Target, inputs: Arrays, outputs: Sequence[str] = (), request_id: str = "") -> Reply:
    return _kserve_rest(target, inputs, outputs, request_id, binary=False)


def kserve_rest_binary(target: Target, inputs: Arrays, outputs: Sequence[str] = (), request_id: str = "") -> Reply:
    return _kserve_rest(target, inputs, outputs, request_id, binary=True)


def _kserve_grpc(target: Target, request: InferRequest) -> Reply:
    async def call() -> Reply:
        async with InferenceGRPCClient(target.service.grpc, timeout=TIMEOUT_S, retries=0) as client:
            try:
                return _of_kserve(await client.infer(request))
            except grpc.aio.AioRpcError as error:
                raise Refused(error.code().name, str(error.details())) from None

    return asyncio.run(call())


def kserve_grpc_raw(
    target: Target, inputs: Arrays, outputs: Sequence[str] = (), request_id: str = "", version: str | None = None
) -> Reply:
    return _kserve_grpc(target, kserve_request(target.name, inputs, outputs, request_id, binary=True, version=version))


def kserve_grpc_typed(target: Target, inputs: Arrays, outputs: Sequence[str] = (), request_id: str = "") -> Reply:
    return _kserve_grpc(target, kserve_request(target.name, inputs, outputs, request_id, binary=False))


# The one that needs a process is found by its name.
TRITON_GRPC = "triton_grpc"
CLIENTS: dict[str, Client] = {
    client.__name__: client
    for client in (
        curl,
        triton_http_binary,
        triton_http_json,
        kserve_rest_json,
        kserve_rest_binary,
        kserve_grpc_raw,
        kserve_grpc_typed,
    )
    if client is not curl or shutil.which("curl")
}
