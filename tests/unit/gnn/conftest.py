"""A small company's event log and a network trained on it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from components.train_gnn.bundle import fit_calibration, write_bundle
from components.train_gnn.entity_graph import EntityLog
from components.train_gnn.logic import TrainedGnn, train
from components.train_gnn.replay import score_log
from components.train_gnn.settings import GnnSettings
from feature_repo.event_log import read_log
from feature_repo.event_schemas import SCORED_EVENT_TYPES
from feature_repo.graph_features import CONTEXT_FEATURES
from feature_repo.ingestion import ingest_files
from feature_repo.labels import read_labels
from feature_repo.pseudonyms import Pseudonymiser
from inference_services.bundle import Bundle
from inference_services.calibration import FULL, NO_GRAPH
from simulators.ride_hailing import read_truth


@pytest.fixture(scope="session")
def gnn_settings() -> GnnSettings:
    return GnnSettings(epochs=2, hidden=16, negatives_share=0.5)


@pytest.fixture(scope="session")
def event_log(small_world: Path, tmp_path_factory: pytest.TempPathFactory, pseudonymiser: Pseudonymiser) -> Path:
    log = tmp_path_factory.mktemp("gnn") / "log"
    ingest_files(small_world / "events", log, pseudonymiser)
    return log


@pytest.fixture(scope="session")
def events(event_log: Path) -> pa.Table:
    return read_log(event_log)


@pytest.fixture(scope="session")
def label_log(small_world: Path) -> pa.Table:
    """What the company came to know, and when."""
    return read_labels(small_world / "labels")


@pytest.fixture(scope="session")
def context(events: pa.Table) -> pd.DataFrame:
    """Any values of `CONTEXT_FEATURES` for the scored events, a tenth of them unknown."""
    rng = np.random.default_rng(0)
    scored = [t in SCORED_EVENT_TYPES for t in events.column("event_type").to_pylist()]
    ids = np.array(events.column("event_id").to_pylist())[scored]
    values = rng.exponential(3.0, (len(ids), len(CONTEXT_FEATURES)))
    values[rng.random(values.shape) < 0.1] = np.nan
    return pd.DataFrame(values, columns=list(CONTEXT_FEATURES)).assign(event_id=ids)


@pytest.fixture(scope="session")
def read(label_log: pa.Table, context: pd.DataFrame) -> Callable[[pa.Table], EntityLog]:
    """Reads events with what was known of them."""
    return lambda table: EntityLog.read(table, label_log, context)


@pytest.fixture(scope="session")
def log(events: pa.Table, read: Callable[[pa.Table], EntityLog]) -> EntityLog:
    return read(events)


@pytest.fixture(scope="session")
def labels(log: EntityLog, small_world: Path) -> pd.DataFrame:
    """The truth as labels: what is tested is the replay, not how labels mature."""
    fraud = set(read_truth(small_world).to_pandas().query("is_fraud").event_id)
    day = log.arrival_day - log.arrival_day.min()
    return pd.DataFrame(
        {
            "event_id": log.event_id,
            "y": [float(e in fraud) for e in log.event_id],
            "split": ["train" if d < 7 else "valid" if d < 9 else "calibrate" for d in day],
        }
    )


@pytest.fixture(scope="session")
def trained(log: EntityLog, labels: pd.DataFrame, gnn_settings: GnnSettings) -> TrainedGnn:
    return train(log, labels, gnn_settings)


@pytest.fixture(scope="session")
def scores(log: EntityLog, trained: TrainedGnn) -> pd.Series:
    return score_log(trained.network, log)


@pytest.fixture(scope="session")
def scores_without_graph(log: EntityLog, trained: TrainedGnn) -> pd.Series:
    return score_log(trained.network, log, graph=False)


@pytest.fixture(scope="session")
def bundle(
    *,
    trained: TrainedGnn,
    scores: pd.Series,
    scores_without_graph: pd.Series,
    labels: pd.DataFrame,
    gnn_settings: GnnSettings,
    tmp_path_factory: pytest.TempPathFactory,
) -> Bundle:
    folder = tmp_path_factory.mktemp("bundle") / "gnn"
    by_mask = {FULL: scores, NO_GRAPH: scores_without_graph}
    calibrations = {mask: fit_calibration(raw, labels) for mask, raw in by_mask.items()}
    return write_bundle(folder, trained, calibrations, gnn_settings, "0" * 64)
