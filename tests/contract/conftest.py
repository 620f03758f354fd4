"""Tiny but real bundles, and services run as the manifests run them: as processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import lightgbm
import numpy as np
import pytest

from feature_repo.event_schemas import SCORED_EVENT_TYPES
from feature_repo.feature_names import (
    CATEGORICAL_FEATURES,
    MODEL_FEATURES,
    REQUEST_FEATURES,
    STORE_FEATURES,
    features_version,
)
from inference_services.bundle import Bundle, write_manifest
from inference_services.graph_parts import ENDPOINT_INFLUENCE, NEIGHBOUR_INFLUENCE
from inference_services.model_names import GNN
from simulators.local_services import RedisServer, free_port
from tests.contract.fusion_bundle import PAYMENT, write_fusion
from tests.contract.graph_bundle import make_graph, write_graph_bundle
from tests.contract.played_parts import DecideOne, decide_with

ROOT = Path(__file__).parents[2]
DETECTOR = "fraud-detector"
CITIES = ("tehran", "mashhad", "isfahan")


@dataclass
class Service:
    http_port: int
    grpc_port: int
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http_port}"

    @property
    def grpc(self) -> str:
        return f"127.0.0.1:{self.grpc_port}"


@dataclass(frozen=True)
class Target:
    """A served model, and a request that it answers.

    Attributes:
        service: the process.
        name: of the model.
        version: that it is served in.
        rows: n -> the tensors of n rows.
        outputs: what comes when a request names no outputs.
        optional: what comes only when it is named.
    """

    service: Service
    name: str
    version: str
    rows: Callable[[int], dict[str, np.ndarray]]
    outputs: tuple[str, ...]
    optional: tuple[str, ...] = ()


StartService = Callable[..., Service]


@pytest.fixture(scope="session")
def start_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartService]:
    """Starts `python -m <module>` on free ports and waits until it is ready; all are stopped at the end."""
    started: list[Service] = []

    def start(
        module: str, name: str, *args: str, env: dict[str, str] | None = None, python: str = sys.executable
    ) -> Service:
        http_port, grpc_port = free_port(), free_port()
        log = tmp_path_factory.mktemp("service") / "log"
        command = [python, "-m", module, f"--model_name={name}", *args]
        command += [f"--http_port={http_port}", f"--grpc_port={grpc_port}"]
        with log.open("wb") as sink:
            environment = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive", **(env or {})}
            process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=sink, stderr=sink)
        service = Service(http_port, grpc_port, process, log)
        started.append(service)
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline:
            if process.poll() is not None:
                raise AssertionError(f"{module} ended with {process.returncode}: {log.read_text()}")
            try:
                if httpx.get(f"{service.url}/v2/models/{name}/ready", timeout=5).status_code == 200:
                    return service
            except httpx.TransportError:
                time.sleep(0.1)
        raise AssertionError(f"{module} was not ready in time: {log.read_text()}")

    yield start
    for service in started:
        service.process.terminate()
    for service in started:
        try:
            service.process.wait(20)
        except subprocess.TimeoutExpired:
            service.process.kill()
            service.process.wait()


def make_rows(n: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Feature columns of n rows; amount and rider trips carry the signal."""
    rng = np.random.default_rng(seed)
    columns: dict[str, np.ndarray] = {
        "event_type": rng.choice(np.array(SCORED_EVENT_TYPES, object), n),
        "city": rng.choice(np.array(CITIES, object), n),
    }
    for name in REQUEST_FEATURES + STORE_FEATURES:
        columns[name] = rng.gamma(2.0, 10.0, n)
    return columns


def write_lightgbm_bundle(
    folder: Path,
    seed: int = 0,
    *,
    rows: Mapping[str, np.ndarray] | None = None,
    cities: Sequence[str] = CITIES,
    noise: float = 5.0,
    trees: int = 10,
    leaves: int = 7,
) -> Bundle:
    """Trains on rows of MODEL_FEATURES, made up if none are given; `cities` has those that are in them.

    A fifth are positives, by amount and `noise`.
    """
    rng = np.random.default_rng(seed)
    columns = make_rows(2000, seed) if rows is None else rows
    n = len(columns["amount"])
    levels = {"event_type": list(SCORED_EVENT_TYPES), "city": list(cities)}
    X = np.empty((n, len(MODEL_FEATURES)))
    for position, name in enumerate(MODEL_FEATURES):
        values = columns[name]
        X[:, position] = [levels[name].index(v) for v in values] if name in levels else values
    amount = np.nan_to_num(columns["amount"])
    signal = amount + columns["rider_trips_1h"] if "rider_trips_1h" in columns else amount
    y = signal + rng.normal(0, noise, n) > np.quantile(signal, 0.8)
    options = {"objective": "binary", "num_leaves": leaves, "verbose": -1, "num_threads": 1, "seed": seed}
    data = lightgbm.Dataset(X, y, feature_name=list(MODEL_FEATURES), categorical_feature=list(CATEGORICAL_FEATURES))
    folder.mkdir(parents=True)
    lightgbm.train(options, data, trees).save_model(folder / "model.bst")
    listing = {
        "features": list(MODEL_FEATURES),
        "categorical": levels,
        "request": list(REQUEST_FEATURES),
        "store": list(STORE_FEATURES),
    }
    (folder / "features.json").write_text(json.dumps(listing))
    calibration = {"full": {"slope": 1.1, "intercept": -0.2}, "no_store": {"slope": 0.7, "intercept": -0.5}}
    (folder / "calibration.json").write_text(json.dumps(calibration))
    np.savez(folder / "reference_sample.npz", X=X[:1000], features=np.array(MODEL_FEATURES))
    typical = {"events": 2000, "values": {"amount": [4.0, 17.0, 47.0]}}
    percentiles = {"quantiles": [0.05, 0.5, 0.95], "all": typical, "event_types": {}}
    (folder / "typical_values.json").write_text(json.dumps(percentiles))
    (folder / "model_card.md").write_text("# A tiny booster for tests\n")
    return write_manifest(
        folder, "fraud-lightgbm", {"seed": seed, "features_version": features_version(MODEL_FEATURES)}
    )


@pytest.fixture(scope="session")
def lightgbm_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return write_lightgbm_bundle(tmp_path_factory.mktemp("bundles") / "lightgbm")


@pytest.fixture(scope="session")
def predictor(start_service: StartService, lightgbm_bundle: Bundle) -> Service:
    """The LightGBM predictor, ready."""
    env = {"K_REVISION": "fraud-detector-00001"}
    module = "inference_services.lightgbm_predictor"
    return start_service(module, DETECTOR, f"--model_dir={lightgbm_bundle.folder}", env=env)


@pytest.fixture(scope="session")
def graph_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return write_graph_bundle(tmp_path_factory.mktemp("bundles") / "gnn")


@pytest.fixture(scope="session")
def graph_predictor(start_service: StartService, graph_bundle: Bundle) -> Service:
    """The GNN predictor, ready."""
    return start_service("inference_services.gnn_predictor", GNN, f"--model_dir={graph_bundle.folder}")


@pytest.fixture(scope="session")
def fusion_bundle(lightgbm_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return write_fusion(tmp_path_factory.mktemp("bundles") / "fusion", lightgbm_bundle.sha12)


@pytest.fixture(scope="session")
def transformer(
    start_service: StartService,
    predictor: Service,
    fusion_bundle: Bundle,
    redis_server: RedisServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Service:
    """The transformer, ready, before the LightGBM predictor; its graph model is away."""
    env = {
        "FRAUD_TRANSFORMER_REDIS_URL": redis_server.url,
        "FRAUD_TRANSFORMER_FUSION_URI": fusion_bundle.folder.as_uri(),
        "FRAUD_TRANSFORMER_GNN_URL": "http://127.0.0.1:9",
        "FRAUD_TRANSFORMER_SPOOL_DIR": str(tmp_path_factory.mktemp("spool") / "spool"),
        "FRAUD_TRANSFORMER_LATENCY_BUDGET_MS": "5000",
        "K_REVISION": "fraud-detector-00002",
    }
    host = f"--predictor_host=127.0.0.1:{predictor.http_port}"
    return start_service("inference_services.transformer", DETECTOR, host, env=env)


def make_payments(n: int) -> dict[str, np.ndarray]:
    """The event fields of n payments of different amounts."""
    rows = [{**PAYMENT, "event_id": f"contract-{i}", "amount": 1_000 + i} for i in range(n)]
    dtypes = {str: np.object_, int: np.int64}
    return {name: np.array([row[name] for row in rows], dtypes[type(PAYMENT[name])]) for name in PAYMENT}


@pytest.fixture(scope="session")
def triton_grpc() -> Iterator[Any]:
    """tritonclient's gRPC client."""
    from tests.contract.v2_clients import triton_grpc_process

    with triton_grpc_process() as client:
        yield client


@pytest.fixture(params=["transformer", "lightgbm", "gnn"])
def target(request: pytest.FixtureRequest) -> Target:
    """Each of the three services, one after the other."""

    def of(name: str) -> Any:
        return request.getfixturevalue(name)

    scores = ("raw_score", "log_odds", "probability")
    if request.param == "lightgbm":
        version = of("lightgbm_bundle").label
        return Target(of("predictor"), DETECTOR, version, make_rows, scores, ("contributions",))
    if request.param == "gnn":
        bundle = of("graph_bundle")
        influences = (NEIGHBOUR_INFLUENCE, ENDPOINT_INFLUENCE)
        return Target(
            of("graph_predictor"), GNN, bundle.label, lambda n: make_graph(n, bundle.sha12), scores, influences
        )
    decisions = ("fraud_probability", "decision", "lightgbm_probability", "gnn_probability", "reasons", "degraded")
    return Target(of("transformer"), DETECTOR, of("fusion_bundle").label, make_payments, decisions)


@pytest.fixture
def decide(tmp_path: Path) -> DecideOne:
    """A decider whose store and models the test plays."""
    return decide_with(tmp_path)
