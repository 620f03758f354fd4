"""The LightGBM predictor behind `DirectInfer` against the same model behind KServe's own route: one row, V2 JSON."""

from __future__ import annotations

import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

import httpx
import orjson

from pipelines.report import Row
from simulators.local_services import LocalProcess, free_port
from tests.benchmarks.rounds import compare
from tests.contract.conftest import make_rows, write_lightgbm_bundle

NAME = "fraud-detector"
OURS, PEER = "inference_services.lightgbm_predictor", "tests.benchmarks.stock_server"


def run() -> list[Row]:
    """Measures one connection, one request at a time."""
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        bundle = write_lightgbm_bundle(scratch / "bundle").folder
        clients = [_client(stack, module, bundle, scratch) for module in (OURS, PEER)]
        body = _body()
        answers = [_post(client, body)["outputs"] for client in clients]
        by_name = [{o["name"]: o["data"] for o in outputs} for outputs in answers]
        assert by_name[0] == by_name[1]
        found = compare(lambda: _post(clients[0], body), lambda: _post(clients[1], body), 150)
    return [
        Row("LightGBM predictor, one row, direct route", found.ours_s * 1000, "ms"),
        Row("LightGBM predictor, one row, KServe's route", found.peer_s * 1000, "ms"),
        Row("the direct route against KServe's", found.ratio, "times", "at least 1", found.ratio >= 1),
    ]


def _client(stack: ExitStack, module: str, bundle: Path, scratch: Path) -> httpx.Client:
    http, grpc = free_port(), free_port()
    arguments = [f"--model_name={NAME}", f"--model_dir={bundle}", f"--http_port={http}", f"--grpc_port={grpc}"]
    command = [sys.executable, "-W", "ignore", "-m", module, *arguments]
    environment = {"OMP_WAIT_POLICY": "passive", "OMP_NUM_THREADS": "1"}
    process = stack.enter_context(LocalProcess(command, scratch / f"{module}.log", environment))
    client = stack.enter_context(httpx.Client(base_url=f"http://127.0.0.1:{http}", timeout=10))
    process.wait_until(lambda: _ready(client), module, 60)
    return client


def _ready(client: httpx.Client) -> bool:
    try:
        return client.get(f"/v2/models/{NAME}/ready").status_code == 200
    except httpx.TransportError:
        return False


def _post(client: httpx.Client, body: bytes) -> dict[str, list[dict[str, object]]]:
    answer = client.post(f"/v2/models/{NAME}/infer", content=body, headers={"content-type": "application/json"})
    answer.raise_for_status()
    found: dict[str, list[dict[str, object]]] = orjson.loads(answer.content)
    return found


def _body() -> bytes:
    inputs = [
        {"name": k, "datatype": "BYTES" if v.dtype == object else "FP64", "shape": [1], "data": v.tolist()}
        for k, v in make_rows(1).items()
    ]
    return orjson.dumps({"id": "bench", "inputs": inputs})
