"""The LightGBM predictor under load, one row a request in V2 JSON, against KServe's own runtime and MLServer's.

All three serve the same trees and answer the same requests in turn: one matrix `[1, F]`, the form that the peers know.
Ours checks the request, calibrates, and counts; the peers answer the trees' probability alone, which is compared first.
MLServer has an environment of its own and predicts in the process that answers, which is its faster way.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import httpx
import numpy as np
import orjson
from numpy.typing import NDArray
from rich.console import Console

from inference_services.lightgbm_predictor.scorer import LightGbmScorer
from pipelines.local_stack import PROJECT_ROOT
from pipelines.report import Row
from simulators.local_services import LocalProcess, free_port
from tests.benchmarks.served import QUIET, Server, kserve_server, rows_of_servers, serve
from tests.benchmarks.whole_paths import LEAVES, PATH, TREES
from tests.contract.conftest import make_rows, write_lightgbm_bundle
from tests.contract.fusion_bundle import NAME
from tests.load_generator import Load, Work, load

CONNECTIONS, ROUNDS, SECONDS, ROWS = 16, 5, 2.5, 64
_LEAST_RATIO = 5.0
_MLSERVER = PROJECT_ROOT / ".venv-mlserver" / "bin" / "mlserver"
_SIDES = ("ours", "KServe's LightGBM runtime", "mlserver-lightgbm")


def run(rounds: int = ROUNDS, seconds: float = SECONDS) -> list[Row]:
    """Compares the answers, then lets the three take turns."""
    with ExitStack() as stack:
        status = stack.enter_context(Console(stderr=True).status("starting the predictors"))
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        bundle = write_lightgbm_bundle(scratch / "bundle", trees=TREES, leaves=LEAVES)
        scorer = LightGbmScorer.load(bundle.folder)
        rows = scorer.encode(make_rows(ROWS), ROWS)
        model = f"--model_dir={bundle.folder}"
        servers = [
            kserve_server(stack, "inference_services.lightgbm_predictor", NAME, scratch / "ours.log", model),
            kserve_server(stack, "tests.contract.stock_lightgbm", NAME, scratch / "stock.log", model),
            _mlserver(stack, scratch / "mlserver", bundle.folder / "model.bst"),
        ]
        bodies = [_body(row) for row in rows]
        _compare(servers, bodies, scorer.booster.predict(rows))
        status.update("measuring the predictors")
        works = [Work(server.port, PATH, bodies, '"outputs"', CONNECTIONS, seconds) for server in servers]
        for work in works:
            load(work)
        loads = list(zip(*([load(work) for work in works] for _ in range(rounds)), strict=True))
        resources = rows_of_servers(dict(zip(_SIDES, servers, strict=True)), "predictor, ")
    return [*_rows(loads), *resources]


def _rows(loads: Sequence[Sequence[Load]]) -> list[Row]:
    found = []
    for side, of_side in zip(_SIDES, loads, strict=True):
        name = f"predictor, {CONNECTIONS} connections, {side}"
        found += [
            Row(name, statistics.median(load.rate for load in of_side), "requests/s"),
            Row(f"{name}, p50", statistics.median(load.p50_ms for load in of_side), "ms"),
            Row(f"{name}, p99", statistics.median(load.p99_ms for load in of_side), "ms"),
            Row(f"{name}, failed", failed := sum(load.failures for load in of_side), "", "0", failed == 0),
        ]
    for side, of_side in zip(_SIDES[1:], loads[1:], strict=True):
        ratio = statistics.median(a.rate / b.rate for a, b in zip(loads[0], of_side, strict=True))
        bound = f"at least {_LEAST_RATIO:g}"
        found.append(Row(f"predictor, requests/s against {side}", ratio, "times", bound, ratio >= _LEAST_RATIO))
    return found


def _mlserver(stack: ExitStack, folder: Path, model: Path) -> Server:
    ports = [free_port() for _ in range(3)]
    names = ("http_port", "grpc_port", "metrics_port")
    folder.mkdir()
    settings = {**dict(zip(names, ports, strict=True)), "parallel_workers": 0, "debug": False}
    parameters = {"uri": str(model), "version": "1"}
    about = {"name": NAME, "implementation": "mlserver_lightgbm.LightGBMModel", "parameters": parameters}
    (folder / "settings.json").write_bytes(orjson.dumps(settings))
    (folder / "model-settings.json").write_bytes(orjson.dumps(about))
    process = LocalProcess([str(_MLSERVER), "start", str(folder)], folder / "log", QUIET)
    return serve(stack.enter_context(process), ports[0], f"/v2/models/{NAME}/ready")


def _compare(servers: Sequence[Server], bodies: Sequence[str], expected: NDArray[np.float64]) -> None:
    """Every side's probability by the trees, of every row."""
    for body, probability in zip(bodies, expected, strict=True):
        answers = [_post(server, body) for server in servers]
        ours = 1 / (1 + np.exp(-np.float64(answers[0]["raw_score"])))
        (stock,), (peer,) = (answer.values() for answer in answers[1:])
        np.testing.assert_allclose([ours, stock, peer], probability, rtol=1e-12)


def _post(server: Server, body: str) -> dict[str, float]:
    headers = {"content-type": "application/json"}
    answer = httpx.post(f"http://127.0.0.1:{server.port}{PATH}", content=body, headers=headers, timeout=30)
    answer.raise_for_status()
    return {output["name"]: float(np.ravel(output["data"])[0]) for output in answer.json()["outputs"]}


def _body(row: NDArray[np.float64]) -> str:
    tensor = {"name": "input-0", "datatype": "FP64", "shape": [1, len(row)], "data": row.tolist()}
    return orjson.dumps({"id": "benchmark", "inputs": [tensor]}).decode()
