"""A dataset just large enough for every split to hold fraud."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
from mlflow import MlflowClient

from feature_repo.datasets import Dataset, snapshot
from feature_repo.event_log import log_days
from feature_repo.ingestion import ingest_files
from feature_repo.pseudonyms import Pseudonymiser
from simulators.local_services import MlflowServer
from simulators.ride_hailing import WorldSettings, simulate

ROOT = Path(__file__).parents[2]
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory, pseudonymiser: Pseudonymiser) -> Dataset:
    root = tmp_path_factory.mktemp("company")
    simulate(WorldSettings(days=13, events_per_day=600, riders=600, drivers=70), root / "world")
    ingest_files(root / "world" / "events", root / "log", pseudonymiser)
    cutoff = log_days(root / "log")[-1] + timedelta(days=1)
    return snapshot(root / "log", root / "world" / "labels", root / "datasets", cutoff)


@pytest.fixture(scope="session")
def registry_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    """An MLflow whose registry the tests may empty."""
    with MlflowServer(tmp_path_factory.mktemp("registry")) as server:
        yield server


@pytest.fixture
def fresh_url(registry_server: MlflowServer) -> str:
    """Its address, with an empty registry behind it."""
    client = MlflowClient(registry_server.url)
    for model in client.search_registered_models():
        client.delete_registered_model(model.name)
    return registry_server.url


@pytest.fixture
def cut(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[str, str], bool], BaseException], None]:
    """Ends the process, or the connection, after the server has answered a request: at the transport, as it happens."""
    send = requests.Session.send

    def arm(hit: Callable[[str, str], bool], error: BaseException) -> None:
        def sent(session: requests.Session, request: requests.PreparedRequest, **options: Any) -> requests.Response:
            answer = send(session, request, **options)
            if hit(str(request.method), urlsplit(str(request.url)).path.rpartition("/2.0/mlflow/")[2]):
                raise error
            return answer

        monkeypatch.setattr(requests.Session, "send", sent)

    return arm
