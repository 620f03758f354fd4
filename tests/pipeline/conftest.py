"""A dataset just large enough for every split to hold fraud."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path

import pytest

from feature_repo.datasets import Dataset, snapshot
from feature_repo.event_log import log_days
from feature_repo.ingestion import ingest_files
from feature_repo.pseudonyms import Pseudonymiser
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
