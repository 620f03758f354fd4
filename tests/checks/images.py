"""`python -m tests.checks.images [IMAGE ...]`: the built images, each run as a cluster runs it; events scored inside.

Of every image: who it runs as, what it can write, that no compiler and no pip is in it, its size, that its packages are
those of its bill. Of the servers: how
long they take to be ready, their health check, and an answer of the right kind; the LightGBM predictor's scores must be
those of the same bundle on this machine.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from packaging.utils import canonicalize_name
from rich.console import Console

from inference_services.lightgbm_predictor.scorer import LightGbmScorer
from inference_services.model_names import GNN
from pipelines.local_stack import PROJECT_ROOT
from pipelines.report import Row
from requirements.sbom import closure, environment_of
from simulators.local_services import LocalProcess, LocalServiceError, RedisServer, free_port
from tests.bounds import conclude
from tests.checks.containers import CannotRun, Image, Runner, run, runner
from tests.contract.conftest import DETECTOR, make_payments, make_rows, write_lightgbm_bundle
from tests.contract.fusion_bundle import write_fusion
from tests.contract.graph_bundle import make_graph, write_graph_bundle
from tests.contract.v2_clients import as_json
from tests.manifests.test_images import TARGETS, UID
from tests.unit.inference_services.test_extras import PROJECT

BUNDLE = "/mnt/models"
READY_S = 120
_SCRATCH = "/tmp/x"  # noqa: S108 - inside the container
_INSTALLED = """
import json
from importlib.metadata import distributions
print(json.dumps({found.name: found.version for found in distributions()}))
"""
_CONFINED = """
import json, os, shutil
def writable(path):
    try:
        open(path, "w").close()
    except OSError:
        return False
    return True
print(json.dumps({
    "user": os.getuid(),
    "writable": [p for p in ("/x", "/app/x", "/opt/venv/x", "/var/x", "/tmp/x") if writable(p)],
    "tools": [t for t in ("cc", "gcc", "g++", "clang", "make", "pip", "pip3") if shutil.which(t)],
}))
"""


@dataclass(frozen=True)
class World:
    """What the images are run by, and given.

    Attributes:
        found: runs images.
        folder: scratch.
        redis: the address of a Redis, empty.
    """

    found: Runner
    folder: Path
    redis: str
    lightgbm: str = "127.0.0.1:9"
    graph: str = "http://127.0.0.1:9"


def check(names: Sequence[str], folder: Path) -> list[Row]:
    """All rows of the report, for images by name."""
    rows: list[Row] = []
    with runner() as found, RedisServer(folder / "redis") as redis:
        world = World(found, folder, redis.url)
        for name in names:
            try:
                image = found.image(f"{name}:{PROJECT['version']}")
                rows += [*_confinement(found, image), _packages(found, image, name), *_CHECKS[name](world, image)]
            except (CannotRun, LocalServiceError, httpx.HTTPError) as problem:
                rows.append(Row(f"{name}: fails", str(problem), "", "runs", False))
    return rows


def _confinement(found: Runner, image: Image) -> list[Row]:
    told = json.loads(run(found, image, ["python", "-c", _CONFINED]))
    return [
        Row(f"{image.name}: size", round(image.size / 1e6), "MB"),
        Row(f"{image.name}: user", told["user"], "", f"{UID}", told["user"] == UID),
        Row(
            f"{image.name}: can write to",
            " ".join(told["writable"]),
            "",
            "scratch only",
            told["writable"] == [_SCRATCH],
        ),
        Row(f"{image.name}: compilers, pip", " ".join(told["tools"]) or "none", "", "none", not told["tools"]),
    ]


def _packages(found: Runner, image: Image, name: str) -> Row:
    """What is installed is what `make sbom` lists."""
    told = json.loads(run(found, image, ["python", "-c", _INSTALLED]))
    installed = {canonicalize_name(package): version.partition("+")[0] for package, version in told.items()}
    environment, wanted = environment_of(name)
    listed = {package: environment.lock[package] for package in closure(environment, wanted)}
    other = sorted({package for package, _ in installed.items() ^ listed.items()})
    return Row(f"{image.name}: packages unlike its bill", " ".join(other) or "none", "", "none", not other)


def _check_steps(world: World, image: Image) -> list[Row]:
    """The image of the steps: the command line answers, and what the steps import is there."""
    run(world.found, image, image.command)
    modules = (
        "kfp",
        "mlflow",
        "components.train_gnn.step",
        "components.train_lightgbm.logic",
        "components.evaluate.step",
    )
    run(world.found, image, ["python", "-c", f"import {', '.join(modules)}"])
    return [Row(f"{image.name}: the steps' imports", "found", "", "found", True)]


@contextmanager
def _serving(
    world: World,
    image: Image,
    health: str,
    arguments: Sequence[str],
    *,
    env: Mapping[str, str],
    mounts: Mapping[Path, str],
) -> Iterator[tuple[LocalProcess, list[Row]]]:
    """A running image, and what its start tells."""
    env = {**env, "HEALTH_URL": health, "OMP_NUM_THREADS": "1"}
    command = world.found.command(image, [*image.command, *arguments], env, mounts)
    began = time.perf_counter()
    with LocalProcess(command, world.folder / f"{image.name}.log") as process:
        process.wait_until(lambda: _answers(health), image.name, READY_S)
        ready_s = time.perf_counter() - began
        # It prints nothing, and fails when the service is not well.
        run(world.found, image, image.health_check, env)
        yield (
            process,
            [
                Row(f"{image.name}: ready after", ready_s, "s"),
                Row(f"{image.name}: health check", "well", "", "well", True),
            ],
        )


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2).status_code == 200
    except httpx.TransportError:
        return False


@contextmanager
def _model_server(
    world: World, image: Image, name: str, bundle: Path, argument: str, *, env: Mapping[str, str] | None = None
) -> Iterator[tuple[str, list[Row]]]:
    """A running KServe server: its address and what its start tells."""
    http, grpc = free_port(), free_port()
    ports = [f"--model_name={name}", f"--http_port={http}", f"--grpc_port={grpc}"]
    health = f"http://127.0.0.1:{http}/v2/health/ready"
    with _serving(world, image, health, [*ports, argument], env=env or {}, mounts={bundle: BUNDLE}) as (_, rows):
        yield f"127.0.0.1:{http}", rows


def _infer(address: str, model: str, inputs: Mapping[str, np.ndarray]) -> dict[str, list[Any]]:
    response = httpx.post(f"http://{address}/v2/models/{model}/infer", json=as_json(inputs), timeout=30)
    response.raise_for_status()
    return {output["name"]: output["data"] for output in response.json()["outputs"]}


@contextmanager
def _lightgbm(world: World, image: Image) -> Iterator[tuple[str, list[Row], Path]]:
    folder = world.folder / f"lightgbm-{free_port()}"
    write_lightgbm_bundle(folder)
    with _model_server(world, image, DETECTOR, folder, f"--model_dir={BUNDLE}") as (address, rows):
        yield address, rows, folder


def _check_lightgbm(world: World, image: Image) -> list[Row]:
    with _lightgbm(world, image) as (address, rows, folder):
        scorer = LightGbmScorer.load(folder)
        columns = make_rows(20, seed=5)
        answered = np.array(_infer(address, DETECTOR, columns)["probability"])
    wanted = scorer.score(scorer.encode(columns, 20)).probability
    off = float(np.abs(answered - wanted).max())
    return [*rows, Row(f"{image.name}: scores, off by at most", off, "", "at most 1e-12", off <= 1e-12)]


def _check_graph(world: World, image: Image) -> list[Row]:
    folder = world.folder / "graph"
    bundle = write_graph_bundle(folder)
    with _model_server(world, image, GNN, folder, f"--model_dir={BUNDLE}") as (address, rows):
        scored = _infer(address, GNN, make_graph(20, bundle.sha12))["probability"]
    sound = len(scored) == 20 and all(0 < p < 1 for p in scored)
    return [*rows, Row(f"{image.name}: events scored", len(scored), "", "20", sound)]


def _check_transformer(world: World, image: Image) -> list[Row]:
    """An event decided by the transformer's image, scored in the LightGBM predictor's."""
    predictor = world.found.image(f"fraud-lightgbm-predictor:{PROJECT['version']}")
    with _lightgbm(world, predictor) as (address, _, folder):
        sha12 = LightGbmScorer.load(folder).bundle.sha12
        fusion = world.folder / "fusion"
        write_fusion(fusion, sha12)
        env = {
            "FRAUD_TRANSFORMER_REDIS_URL": world.redis,
            "FRAUD_TRANSFORMER_FUSION_URI": f"file://{BUNDLE}",
            "FRAUD_TRANSFORMER_GNN_URL": "http://127.0.0.1:9",
            "FRAUD_TRANSFORMER_SPOOL_DIR": "/tmp/spool",  # noqa: S108 - inside the container
            "FRAUD_TRANSFORMER_LATENCY_BUDGET_MS": "5000",
        }
        host = f"--predictor_host={address}"
        with _model_server(world, image, DETECTOR, fusion, host, env=env) as (own, rows):
            answer = _infer(own, DETECTOR, make_payments(3))
    sound = answer["degraded"] == ["gnn"] * 3 and all(0 < p < 1 for p in answer["fraud_probability"])
    return [*rows, Row(f"{image.name}: events decided", len(answer["decision"]), "", "3", sound)]


def _check_drift(world: World, image: Image) -> list[Row]:
    folder = world.folder / "reference"
    write_lightgbm_bundle(folder)
    columns = {name: values for name, values in make_rows(400, 3).items() if values.dtype != object}
    columns["amount"] = columns["amount"] * 3
    with _model_server(world, image, "fraud-drift", folder, f"--model_dir={BUNDLE}") as (address, rows):
        (drifted,) = _infer(address, "fraud-drift", columns)["is_drift"]
    return [*rows, Row(f"{image.name}: drift seen", str(drifted), "", "True", drifted is True)]


def _check_worker(world: World, image: Image) -> list[Row]:
    """A worker that listens to Redis: `fraud-features`, `fraud-decision-log`."""
    port = free_port()
    env = {
        "FRAUD_FEATURES_REDIS_URL": world.redis,
        "FRAUD_DECISION_LOG_REDIS_URL": world.redis,
        "FRAUD_DECISION_LOG_FOLDER": "/tmp/decisions",  # noqa: S108 - inside the container
        "FRAUD_DECISION_LOG_METRICS_PORT": str(port),
    }
    arguments = [f"--metrics-port={port}"] if image.name.startswith("fraud-features") else []
    health = f"http://127.0.0.1:{port}/metrics"
    with _serving(world, image, health, arguments, env=env, mounts={}) as (process, rows):
        time.sleep(2)
        alive = process.alive()
    return [*rows, Row(f"{image.name}: goes on", str(alive), "", "True", alive)]


def _check_features(world: World, image: Image) -> list[Row]:
    """The worker, and ingestion, which takes an event over HTTP."""
    url = f"http://127.0.0.1:{(port := free_port())}"
    env = {"FRAUD_INGESTION_REDIS_URL": world.redis, "FRAUD_INGESTION_PORT": str(port)}
    env |= {"FRAUD_INGESTION_KEY": "a key for this check alone"}
    words = ["python", "-m", "feature_repo.ingestion_service"]
    event = {"event_id": "e-1", "event_type": "account_changed", "event_timestamp": time.time_ns() // 1000}
    event |= {"rider_id": "rider-7", "device_id": "phone-7", "city": "tehran", "change": "email"}
    with LocalProcess(world.found.command(image, words, env, {}), world.folder / "ingestion.log") as process:
        process.wait_until(lambda: _answers(f"{url}/readyz"), "ingestion", READY_S)
        accepted = httpx.post(f"{url}/v1/events", json=event, timeout=30).json().get("accepted")
    return [*_check_worker(world, image), Row(f"{image.name}: events taken", accepted, "", "1", accepted == 1)]


_CHECKS: dict[str, Callable[[World, Image], list[Row]]] = {
    "fraud-transformer": _check_transformer,
    "fraud-lightgbm-predictor": _check_lightgbm,
    "fraud-gnn-predictor": _check_graph,
    "fraud-drift": _check_drift,
    "fraud-decision-log": _check_worker,
    "fraud-features": _check_features,
    "fraud-pipelines": _check_steps,
}


def main() -> int:
    """Runs from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("images", nargs="*", default=TARGETS, help="names without tag; all when none is given")
    names = parser.parse_args().images
    with tempfile.TemporaryDirectory() as folder:
        # The image's user reads the bundles.
        Path(folder).chmod(0o755)
        try:
            rows = check(names, Path(folder))
        except CannotRun as problem:
            sys.stderr.write(f"{problem}\n")
            return 1
    return conclude(rows, PROJECT_ROOT / ".local" / "reports" / "check-images.json", Console(width=150))


if __name__ == "__main__":
    sys.exit(main())
