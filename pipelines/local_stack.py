"""Everything that serves, as processes on one machine, brought up and taken down in order."""

from __future__ import annotations

import shutil
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import redis
from rich.console import Console

from components import kserve_api
from components.canary import Canary, raise_to
from components.rollout import check_fusion
from components.volumes import VolumeSettings
from feature_repo.settings import FEAST_PROJECT
from feature_repo.streaming.rebuild import rebuild
from pipelines import deploy
from pipelines.errors import StepError
from pipelines.materialization import materialize
from pipelines.registry import ModelVersion
from pipelines.step_settings import BUNDLES
from pipelines.workspace import Workspace

Progress = Callable[[int, int], None]
PROJECT_ROOT = Path(__file__).resolve().parents[1]
MANIFESTS = PROJECT_ROOT / "manifests" / "base"
# On two cores shared by everything, so that a slow moment does not change a decision (the manifests say 50 ms).
LOCAL_BUDGET_MS = 1000
_READY_S = 180.0
# About one simulated day: fewer would hold the night against the reference's whole weeks.
DRIFT_WINDOW = 4000


class Server(Protocol):
    """A started process that answers at `url`."""

    url: str

    def stop(self) -> None:
        """Ends it."""


class Child(Protocol):
    """A started process."""

    def stop(self) -> None:
        """Ends it."""

    def alive(self) -> bool:
        """Whether it runs."""


class KServe(Protocol):
    """A KServe that this machine runs (`simulators.local_kserve.LocalKServe`)."""

    url: str

    @property
    def kubeconfig(self) -> Path:
        """A file for kubectl and any other Kubernetes client."""

    def api(self) -> Any:
        """A Kubernetes client for it."""

    def wait_ready(self, name: str, timeout: float = 180) -> dict[str, Any]:
        """The InferenceService once it is ready."""

    def requests(self) -> dict[str, int]:
        """Requests by revision."""

    def close(self) -> None:
        """Ends it."""


@dataclass(frozen=True)
class LocalParts:
    """How to start what a cluster would provide; filled in by the command line, so that nothing here knows it.

    Attributes:
        redis: folder -> running Redis.
        mlflow: folder -> running MLflow server.
        process: command, log file, environment -> running process.
        kserve: manifests, state folder, images, folder by claim -> running KServe.
    """

    redis: Callable[[Path], Server]
    mlflow: Callable[[Path], Server]
    process: Callable[[list[str], Path, Mapping[str, str]], Child]
    kserve: Callable[[Path, Path, Mapping[str, Any], Mapping[str, Path]], KServe]


class Models(Protocol):
    """The versions that serve together (`pipelines.steps.ModelSet`)."""

    @property
    def lightgbm(self) -> ModelVersion:
        """Tabular model."""

    @property
    def gnn(self) -> ModelVersion:
        """Graph model."""

    @property
    def fusion(self) -> ModelVersion:
        """Pair table and thresholds."""


@dataclass(frozen=True)
class Stack:
    """What runs.

    Attributes:
        redis_url: the online store and the streams.
        kserve: the KServe.
        detector_url: fraud-detector, V2 over HTTP.
        drift_url: fraud-drift.
        models: the versions that serve.
    """

    redis_url: str
    kserve: KServe
    detector_url: str
    drift_url: str
    models: Models

    def canary(self, candidate: ModelVersion, fusion: ModelVersion, percent: int) -> None:
        """Starts the candidate LightGBM beside the champion and waits until both answer.

        Raises:
            StepError: the fusion bundle does not know both; nothing was changed.
        """
        served = self.models.gnn.sha12
        pairs = [(version.sha12, served) for version in (self.models.lightgbm, candidate)]
        check_fusion(fusion.folder, pairs)
        champion = self.models
        addresses = [version.storage_uri for version in (champion.lightgbm, candidate, fusion, champion.fusion)]
        raise_to(self.kserve.api(), Canary(kserve_api.DETECTOR, *addresses), percent, _READY_S)

    def share(self, revision: str) -> float:
        """The part of the detector's predictor requests that `revision` answered."""
        counts = {k: v for k, v in self.kserve.requests().items() if k.startswith(f"{kserve_api.DETECTOR}-predictor")}
        return counts.get(revision, 0) / max(sum(counts.values()), 1)

    def predictor_traffic(self) -> list[dict[str, Any]]:
        """Percent by revision, as KServe's status gives it."""
        status = kserve_api.get(self.kserve.api(), kserve_api.DETECTOR)["status"]
        traffic: list[dict[str, Any]] = status["components"]["predictor"]["traffic"]
        return traffic

    def drift(self) -> dict[str, float]:
        """The drift detector's gauges and counters by name (with labels)."""
        with urllib.request.urlopen(f"{self.drift_url}/metrics", timeout=10) as answer:  # noqa: S310 - loopback http
            lines = answer.read().decode().splitlines()
        found = {}
        for line in lines:
            if line.startswith("fraud_drift_"):
                name, _, value = line.rpartition(" ")
                found[name] = float(value)
        return found


def fill_store(workspace: Workspace, redis_url: str, gnn: ModelVersion, progress: Callable[[str], Progress]) -> None:
    """Fills an empty Redis: tiles and neighbours from the log, profiles, norms and embeddings by their pipeline.

    Args:
        workspace: where the log and the feature files are.
        redis_url: the Redis.
        gnn: the graph model whose embeddings are served.
        progress: title -> callback for one progress bar.
    """
    with redis.Redis.from_url(redis_url) as client:
        rebuild(workspace.event_log, client, FEAST_PROJECT, progress("tiles and neighbours -> Redis"))
    # A replay of a part of a day leaves a short last day in the log.
    volumes = VolumeSettings(least_share=0)
    materialize(workspace, redis_url, progress, gnn_bundles=[gnn.folder], volumes=volumes)


@contextmanager
def running(
    workspace: Workspace,
    parts: LocalParts,
    models: Models,
    drift_python: Path,
    progress: Callable[[str], Progress],
    *,
    drift_window: int = DRIFT_WINDOW,
) -> Iterator[Stack]:
    """Redis with its store filled, the worker, the InferenceServices, and the drift bridge; all ended on exit."""
    with ExitStack() as stack:
        store = parts.redis(workspace.root / "redis")
        stack.callback(store.stop)
        fill_store(workspace, store.url, models.gnn, progress)
        worker = [sys.executable, "-m", "feature_repo.streaming.worker", "--log", str(workspace.event_log.absolute())]
        env = {"FRAUD_FEATURES_REDIS_URL": store.url, "PYTHONPATH": str(PROJECT_ROOT)}
        stack.callback(parts.process(worker, workspace.logs / "worker.log", env).stop)
        # Begun before the services and ended after them: it takes what they still had to say.
        sink = [sys.executable, "-m", "inference_services.decision_log"]
        env |= {"FRAUD_DECISION_LOG_REDIS_URL": store.url}
        env |= {"FRAUD_DECISION_LOG_FOLDER": str(workspace.decision_log.absolute())}
        stack.callback(parts.process(sink, workspace.logs / "decision_log.log", env).stop)
        images = _images(workspace, store.url, drift_python, drift_window)
        claims = {BUNDLES.claim: workspace.bundles}
        kserve = parts.kserve(MANIFESTS, workspace.root / "kserve", images, claims)
        stack.callback(kserve.close)
        shutil.copyfile(kserve.kubeconfig, workspace.kubeconfig)
        stack.callback(workspace.kubeconfig.unlink, missing_ok=True)
        bar = progress("InferenceServices ready")
        api = kserve.api()
        # The detector's transformer calls the graph model: that one comes first.
        deploy.apply(api, deploy.with_model(deploy.manifest(MANIFESTS, kserve_api.GNN), models.gnn.storage_uri))
        drift = deploy.with_model(deploy.manifest(MANIFESTS, kserve_api.DRIFT), models.lightgbm.storage_uri)
        deploy.apply(api, drift)
        kserve.wait_ready(kserve_api.GNN)
        bar(1, 3)
        deploy.deploy_detector(api, MANIFESTS, models.lightgbm.storage_uri, models.fusion.storage_uri)
        detector_url = kserve.wait_ready(kserve_api.DETECTOR)["status"]["url"]
        bar(2, 3)
        drift_url = kserve.wait_ready(kserve_api.DRIFT)["status"]["url"]
        bar(3, 3)
        bridge = [sys.executable, "-m", "inference_services.drift_detector.bridge"]
        env |= {"FRAUD_DRIFT_BRIDGE_REDIS_URL": store.url, "FRAUD_DRIFT_BRIDGE_TARGET_URL": drift_url}
        stack.callback(parts.process(bridge, workspace.logs / "drift_bridge.log", env).stop)
        yield Stack(store.url, kserve, detector_url, drift_url, models)


def _images(workspace: Workspace, redis_url: str, drift_python: Path, drift_window: int) -> dict[str, Any]:
    if not drift_python.exists():
        raise StepError(f"no interpreter {drift_python} for the drift detector: run `make env`")
    ours = {
        "OMP_WAIT_POLICY": "passive",
        "PYTHONPATH": str(PROJECT_ROOT),
        "FRAUD_SERVER_TARGET_MS": str(LOCAL_BUDGET_MS / 2),
    }
    transformer = {
        "FRAUD_TRANSFORMER_REDIS_URL": redis_url,
        "FRAUD_TRANSFORMER_BUNDLE_ROOT": str(workspace.bundles.absolute()),
        "FRAUD_TRANSFORMER_SPOOL_DIR": str((workspace.root / "spool").absolute()),
        "FRAUD_TRANSFORMER_LATENCY_BUDGET_MS": str(LOCAL_BUDGET_MS),
    }
    python = sys.executable
    return {
        "fraud-transformer:0.1.0": {"python": python, "env": ours | transformer},
        "fraud-lightgbm-predictor:0.1.0": {"python": python, "env": ours},
        "fraud-gnn-predictor:0.1.0": {"python": python, "env": ours},
        "fraud-drift:0.1.0": {
            "python": str(drift_python),
            "env": ours | {"FRAUD_DRIFT_WINDOW": str(drift_window)},
        },
    }


def curl_line(detector_url: str, body: Path) -> str:
    """A command that scores an event."""
    return f"curl -s -H 'content-type: application/json' -d @{body} {detector_url}/v2/models/fraud-detector/infer"


def wait_for_interrupt(workspace: Workspace, stack: Stack, mlflow_url: str, console: Console) -> None:
    """Prints and records where everything is, and returns at Ctrl-C or when the process is asked to end."""
    found = {
        "redis": stack.redis_url,
        "kserve": stack.kserve.url,
        "fraud-detector": stack.detector_url,
        "fraud-drift": stack.drift_url,
        "mlflow": mlflow_url,
    }
    workspace.write_addresses(found)
    for name, url in found.items():
        console.print(f"  {name:<16} {url}")
    console.print(f"  kubectl --kubeconfig {workspace.kubeconfig} get isvc", soft_wrap=True)
    console.print("Ctrl-C ends them.")
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        console.print("stopping")
    finally:
        workspace.write_addresses(None)
