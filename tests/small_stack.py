"""The whole serving path as real processes with small real bundles: Redis twice, both predictors, the transformer."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import redis
import torch

from feature_repo.event_batch import EventBatch
from feature_repo.event_log import read_log
from feature_repo.event_schemas import SCORED_EVENT_TYPES
from feature_repo.feast_format import hash_field, redis_key
from feature_repo.feature_names import gnn_service
from feature_repo.ingestion import ingest_files
from feature_repo.pseudonyms import ENTITY_KINDS, Pseudonymiser
from feature_repo.settings import EMBEDDING_DIM, FEAST_PROJECT
from feature_repo.streaming.rebuild import rebuild
from inference_services.bundle import Bundle, write_manifest
from inference_services.gnn_predictor.network import FraudGnn, GnnConfig, save_network
from inference_services.model_names import GNN
from simulators.local_services import LocalProcess, free_port
from simulators.ride_hailing import WorldSettings, simulate
from tests.conftest import ROOT
from tests.contract.conftest import write_lightgbm_bundle
from tests.contract.fusion_bundle import NAME, write_fusion
from tests.redis_servers import CustomRedis

READY_S = 90


class Service:
    """A process that can be killed and started again on the same ports.

    Args:
        module: what `python -m` runs.
        name: its model's name.
        arguments: beside the ports.
        env: variables on top of this process's.
        log: file for its output, continued when it is started again.
    """

    def __init__(
        self, module: str, name: str, arguments: Sequence[str], log: Path, env: Mapping[str, str] | None = None
    ) -> None:
        self.port, self.grpc_port, self.name, self.log = free_port(), free_port(), name, log
        ports = [f"--http_port={self.port}", f"--grpc_port={self.grpc_port}"]
        self._command = [sys.executable, "-m", module, f"--model_name={name}", *arguments, *ports]
        self._env = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive", "PYTHONPATH": str(ROOT), **(env or {})}
        self.start()

    def start(self) -> None:
        self.process = LocalProcess(self._command, self.log, self._env)

    def wait_ready(self) -> None:
        self.process.wait_until(self.ready, f"{self.name}, log {self.log}", READY_S)

    def ready(self) -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{self.port}/v2/health/ready", timeout=2).status_code == 200
        except httpx.TransportError:
            return False

    def kill(self) -> None:
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.stop()

    def stop(self) -> None:
        self.process.stop()

    def resident_mib(self) -> float:
        """Its memory that is in use, as Linux counts it."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


class Redis:
    """A Redis that can be killed and started again on the same port, with what it held.

    Args:
        folder: its working folder.
    """

    def __init__(self, folder: Path) -> None:
        self.port, self._folder = free_port(), folder
        self.url = f"redis://127.0.0.1:{self.port}"
        self.start()

    def start(self) -> None:
        # Written at once, though not to the disk: that survives the process, and costs little.
        options = {"port": str(self.port), "appendonly": "yes", "appendfsync": "no"}
        self.process = CustomRedis(self._folder, options, lambda: redis.Redis("127.0.0.1", self.port))

    def ready(self) -> bool:
        try:
            with redis.Redis("127.0.0.1", self.port, socket_timeout=1) as client:
                return bool(client.ping())
        except (redis.RedisError, OSError):
            return False

    def kill(self) -> None:
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.stop()

    def stop(self) -> None:
        self.process.stop()


@dataclass(frozen=True)
class Bundles:
    """The three bundles."""

    lightgbm: Bundle
    gnn: Bundle
    fusion: Bundle


def write_bundles(folder: Path) -> Bundles:
    """A small booster, a small network with the weights that it was born with, and the fusion of both."""
    lightgbm, gnn = write_lightgbm_bundle(folder / "lightgbm"), _write_gnn(folder / "gnn")
    return Bundles(lightgbm, gnn, write_fusion(folder / "fusion", lightgbm.sha12, gnn=gnn.sha12))


def _write_gnn(folder: Path) -> Bundle:
    folder.mkdir(parents=True)
    torch.manual_seed(0)
    save_network(FraudGnn(GnnConfig(node_features=("degree",), hidden=8)), folder)
    (folder / "calibration.json").write_text(json.dumps({"full": {"slope": 1.0, "intercept": -1.0}}))
    (folder / "model_card.md").write_text("# A network without training, for tests\n")
    sha12 = write_manifest(folder, GNN, {}).sha12
    return write_manifest(folder, GNN, {"feature_service": gnn_service(sha12)})


@dataclass(frozen=True)
class History:
    """A small company's past.

    Attributes:
        log: its event log.
        events: scored events of its last day, each with a few reads behind it.
    """

    log: Path
    events: tuple[dict[str, Any], ...]


def make_history(folder: Path, events: int = 40) -> History:
    """Six simulated days of a small city."""
    simulate(WorldSettings(days=6, events_per_day=300, riders=200, drivers=30), folder / "world")
    ingest_files(folder / "world" / "events", folder / "log", Pseudonymiser(b"a key for the tests only"))
    rows = list(EventBatch.from_arrow(read_log(folder / "log")).rows())
    scored = [row for row in rows if row["event_type"] in SCORED_EVENT_TYPES]
    return History(folder / "log", tuple(scored[-events:]))


def fill_store(url: str, history: History, gnn_version: str) -> None:
    """What the streaming worker and the materialisation would have written."""
    rng = np.random.default_rng(0)
    with redis.Redis.from_url(url) as client:
        rebuild(history.log, client, FEAST_PROJECT)
        table = read_log(history.log)
        for kind in ENTITY_KINDS:
            field = hash_field(f"{kind}_embedding_{gnn_version}", "embedding")
            for entity in sorted({name for name in table[f"{kind}_id"].to_pylist() if name}):
                body = rng.normal(size=EMBEDDING_DIM).astype("<f4").tobytes()
                message = bytes([0x82, 0x01, len(body) + 2, 0x0A, len(body)]) + body
                client.hset(redis_key(FEAST_PROJECT, {f"{kind}_id": entity}), field, message)


@dataclass(frozen=True)
class SmallStack:
    """Everything that runs."""

    store: Redis
    stream: Redis
    lightgbm: Service
    gnn: Service
    transformer: Service
    bundles: Bundles
    history: History
    spool: Path


@contextmanager
def predictors(folder: Path, bundles: Bundles) -> Iterator[tuple[Service, Service]]:
    """The LightGBM and the graph model's predictor, starting."""
    with ExitStack() as stack:
        made = []
        for part, name, bundle in (("lightgbm", NAME, bundles.lightgbm), ("gnn", GNN, bundles.gnn)):
            module = f"inference_services.{part}_predictor"
            service = Service(module, name, [f"--model_dir={bundle.folder}"], folder / f"{part}.log")
            stack.callback(service.stop)
            made.append(service)
        yield made[0], made[1]


@contextmanager
def small_stack(
    folder: Path, env: Mapping[str, str] | None = None, reach: Callable[[str, int], int] = lambda _, port: port
) -> Iterator[SmallStack]:
    """All of it, ready.

    Args:
        folder: for everything that it writes.
        env: variables of the transformer.
        reach: part (store, stream, lightgbm, gnn), its port -> the port at which the transformer reaches it.
    """
    bundles, history = write_bundles(folder / "bundles"), make_history(folder)
    with ExitStack() as stack:
        store, stream = Redis(folder / "store"), Redis(folder / "stream")
        for server in (store, stream):
            stack.callback(server.stop)
        lightgbm, gnn = stack.enter_context(predictors(folder, bundles))
        fill_store(store.url, history, bundles.gnn.sha12)
        parts = {"store": store, "stream": stream, "lightgbm": lightgbm, "gnn": gnn}
        ports = {name: reach(name, part.port) for name, part in parts.items()}
        given = {
            "FRAUD_TRANSFORMER_REDIS_URL": f"redis://127.0.0.1:{ports['store']}",
            "FRAUD_TRANSFORMER_DECISION_REDIS_URL": f"redis://127.0.0.1:{ports['stream']}",
            "FRAUD_TRANSFORMER_FUSION_URI": bundles.fusion.folder.as_uri(),
            "FRAUD_TRANSFORMER_GNN_URL": f"http://127.0.0.1:{ports['gnn']}",
            "FRAUD_TRANSFORMER_SPOOL_DIR": str(folder / "spool"),
            "FRAUD_TRANSFORMER_LATENCY_BUDGET_MS": "1000",
            **(env or {}),
        }
        host = f"--predictor_host=127.0.0.1:{ports['lightgbm']}"
        transformer = Service("inference_services.transformer", NAME, [host], folder / "transformer.log", given)
        stack.callback(transformer.stop)
        for service in (lightgbm, gnn, transformer):
            service.wait_ready()
        yield SmallStack(store, stream, lightgbm, gnn, transformer, bundles, history, folder / "spool")
