"""A small dataset, and synthetic training sets whose signal is known."""

from __future__ import annotations

import os
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from feature_repo.datasets import Dataset, snapshot
from feature_repo.event_log import log_days
from feature_repo.event_schemas import SCORED_EVENT_TYPES
from feature_repo.feature_names import CATEGORICAL_FEATURES, MODEL_FEATURES
from feature_repo.ingestion import ingest_files
from feature_repo.pseudonyms import Pseudonymiser
from inference_services.policy_settings import ThresholdSettings

ROOT = Path(__file__).parents[3]
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")


@pytest.fixture(scope="session")
def policy() -> ThresholdSettings:
    return ThresholdSettings.read(ROOT / "manifests" / "base" / "policy" / "threshold_settings.yaml")


@pytest.fixture(scope="session")
def small_dataset(small_world: Path, pseudonymiser: Pseudonymiser, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    root = tmp_path_factory.mktemp("dataset")
    ingest_files(small_world / "events", root / "log", pseudonymiser, days=8)
    cutoff = log_days(root / "log")[-1] + timedelta(days=1)
    return snapshot(root / "log", small_world / "labels", root / "datasets", cutoff)


def make_training_set(n: int, seed: int = 0) -> pd.DataFrame:
    """n rows over 20 days; `amount` carries the signal with the store, `speed_kmh` a weaker one without."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(rng.gamma(2.0, 10.0, (n, len(MODEL_FEATURES))), columns=list(MODEL_FEATURES))
    for name, levels in zip(CATEGORICAL_FEATURES, (SCORED_EVENT_TYPES, ("isfahan", "tehran")), strict=True):
        frame[name] = rng.choice(np.array(levels, object), n)
    signal = 0.12 * frame["rider_requests_7d"] + 0.06 * frame["speed_kmh"]
    frame["y"] = (rng.random(n) < 1 / (1 + np.exp(8.0 - signal))).astype(float)
    frame["event_id"] = [f"e{i:06d}" for i in range(n)]
    frame["stream_seq"] = np.arange(n)
    frame["event_timestamp"] = pd.Timestamp("2026-01-03", tz="UTC") + pd.to_timedelta(np.arange(n) * 20 / n, unit="D")
    frame["rider_id"] = rng.choice([f"r1-{i:016x}" for i in range(n // 5)], n)
    frame["typology"] = np.where(frame["y"] == 1, rng.choice(["collusion", "gps_spoofing"], n), None)
    day = (frame["event_timestamp"].dt.date - date(2026, 1, 3)).map(lambda d: d.days)
    frame["split"] = np.select([day < 11, day < 14, day < 17], ["train", "valid", "calibrate"], "test")
    return frame


@pytest.fixture(scope="session")
def training_set() -> pd.DataFrame:
    return make_training_set(6000)
