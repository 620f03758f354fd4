"""Real parts for every test: a Redis, a small simulated company."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
import yaml
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
# Feast sets it, and xdist's workers inherit it: metrics would be counted in files, where an earlier test's stay.
os.environ.pop("PROMETHEUS_MULTIPROC_DIR", None)

import prometheus_client  # noqa: F401 - before Feast

from feature_repo.datasets import snapshot
from feature_repo.event_log import log_days
from feature_repo.ingestion import ingest_files
from feature_repo.pseudonyms import Pseudonymiser
from pipelines.workspace import Workspace
from simulators.local_services import MlflowServer, RedisServer
from simulators.ride_hailing import WorldSettings, simulate
from tests.open_gate import OPEN_GATE

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """One Redis for the session; a test that writes flushes it first (see `redis_url`)."""
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def redis_url(redis_server: RedisServer) -> str:
    """The address of an empty Redis."""
    import redis

    with redis.Redis.from_url(redis_server.url) as client:
        client.flushall()
    return redis_server.url


@pytest.fixture(scope="session")
def pseudonymiser() -> Pseudonymiser:
    return Pseudonymiser(b"a key for the tests only")


@pytest.fixture(scope="session")
def small_world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve simulated days of a small city."""
    out = tmp_path_factory.mktemp("world") / "world"
    simulate(WorldSettings(days=12, events_per_day=400, riders=600, drivers=60), out)
    return out


@pytest.fixture(scope="session")
def mlflow_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with MlflowServer(tmp_path_factory.mktemp("mlflow")) as server:
        yield server.url


@pytest.fixture(scope="session")
def quick_policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The real policy, with labels that mature in time for a short dataset."""
    policy = yaml.safe_load((ROOT / "manifests" / "base" / "policy" / "threshold_settings.yaml").read_text())
    path = tmp_path_factory.mktemp("policy") / "threshold_settings.yaml"
    path.write_text(yaml.safe_dump(policy | {"label_maturation_days": {"default": 2}}))
    return path


@dataclass(frozen=True)
class Company:
    """A small company that has trained a champion and a challenger.

    Attributes:
        workspace: its folders; the world's last day is not ingested.
        mlflow_url: its registry.
    """

    workspace: Workspace
    mlflow_url: str


@pytest.fixture(scope="session")
def company(tmp_path_factory: pytest.TempPathFactory, quick_policy: Path) -> Iterator[Company]:
    """Two runs of the training pipeline, as `fraud demo` makes them, on two weeks of a small city."""
    from pipelines.steps import train_on

    workspace = Workspace(tmp_path_factory.mktemp("company") / "home")
    simulate(WorldSettings(days=15, events_per_day=600, riders=600, drivers=70), workspace.world)
    ingest_files(workspace.world / "events", workspace.event_log, workspace.pseudonymiser(), days=14)
    today = log_days(workspace.event_log)[-1] + timedelta(days=1)
    with MlflowServer(workspace.mlflow) as server:
        for alias, cutoff in (("champion", today - timedelta(days=1)), ("challenger", today)):
            dataset = snapshot(workspace.event_log, workspace.label_log, workspace.datasets, cutoff)
            train_on(
                workspace,
                dataset,
                alias,
                server.url,
                lambda _: lambda _done, _total: None,
                policy=quick_policy,
                splits={"warm_up_days": 1, "train_share": 0.5},
                lightgbm={"rounds": 20, "min_data_in_leaf": 5, "num_threads": 1},
                gnn={"epochs": 1, "hidden": 8},
                gate=OPEN_GATE,
            )
        yield Company(workspace, server.url)


_LONG = "tests/unit/simulators/test_worlds.py"
# Folders whose tests share what takes long to make: trained models and a running stack; running services.
_TOGETHER = {"tests/stack": "company", "tests/notebooks": "company", "tests/contract": "services"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest file goes first, so that no process waits for it at the end."""
    items.sort(key=lambda item: not item.nodeid.startswith(_LONG))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadScopeScheduling:
    """Where several processes run the tests, those of a file, or of such folders, stay in one.

    Not by the marker `xdist_group`: pytest-xdist 3.8 writes a name that pytest 9.2 no longer reads.
    """

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            path = nodeid.partition("::")[0]
            return _TOGETHER.get(path.rpartition("/")[0], path)

    return ByFile(config, log)


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    session.config.stash[_STATUS] = int(exitstatus)


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    """Ends the process here: DuckDB's binding reports its own types as leaks, forty lines, when Python shuts down."""
    sys.stdout.flush()
    sys.stderr.flush()
    if _STATUS in config.stash:
        os._exit(config.stash[_STATUS])


_STATUS = pytest.StashKey[int]()
