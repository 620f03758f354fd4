"""The pipeline steps and the service's process, as KFP and KServe run them."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import httpx
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from feast import FeatureService
from kfp import compiler, dsl
from pydantic import ValidationError

from components.errors import TooFewLabels
from components.train_gnn.component import train_gnn
from components.train_gnn.entity_graph import EntityLog
from components.train_gnn.logic import train
from components.train_gnn.settings import GnnSettings
from components.write_embeddings.component import write_embeddings
from components.write_embeddings.logic import write_embeddings as write_from_log
from feature_repo.datasets import snapshot
from feature_repo.definitions import definitions
from feature_repo.event_schemas import SCORED_EVENT_TYPES
from feature_repo.graph_features import EDGE_FEATURES, HEAD_FEATURES
from feature_repo.pseudonyms import ENTITY_KINDS
from feature_repo.settings import EMBEDDING_DIM
from inference_services.bundle import Bundle, verify
from inference_services.calibration import read_calibrations

ROOT = Path(__file__).parents[3]


def test_the_training_step_writes_a_bundle_and_the_scores_of_every_scored_event(
    *,
    event_log: Path,
    small_world: Path,
    labels: pd.DataFrame,
    context: pd.DataFrame,
    gnn_settings: GnnSettings,
    tmp_path: Path,
) -> None:
    last = datetime.fromisoformat("2026-01-15").date()
    dataset = snapshot(event_log, small_world / "labels", tmp_path / "datasets", last)
    labels.merge(context, "left", "event_id").to_parquet(tmp_path / "training.parquet")
    model, scores = dsl.Model(uri=str(tmp_path / "model")), dsl.Dataset(uri=str(tmp_path / "scores.parquet"))
    settings = gnn_settings.model_dump()
    training_set = dsl.Dataset(uri=str(tmp_path / "training.parquet"))
    train_gnn.python_func(str(dataset.path), training_set, model, scores, settings)
    bundle = verify(Path(model.path), "fraud-gnn")
    frame = pd.read_parquet(scores.path)
    assert bundle.metadata["dataset"] == dataset.sha256
    assert list(frame.columns) == ["event_id", "gnn_raw", "gnn_log_odds", "gnn_log_odds_no_graph"]
    table = dataset.event_table().to_pandas()
    assert list(frame.event_id) == list(table[table.event_type.isin(SCORED_EVENT_TYPES)].event_id)
    platt = read_calibrations(bundle.read_json("calibration.json"), ("full",))["full"]
    np.testing.assert_allclose(frame.gnn_log_odds, platt.log_odds(frame.gnn_raw.to_numpy()), atol=1e-12)


def test_a_bundle_names_the_feature_service_of_its_content(
    bundle: Bundle, event_log: Path, small_world: Path, tmp_path: Path
) -> None:
    assert verify(bundle.folder, "fraud-gnn").sha256 == bundle.sha256
    as_of = "2026-01-10T00:00:00+00:00"
    labels, features = str(small_world / "labels"), dsl.Dataset(uri=str(tmp_path))
    write_embeddings.python_func(str(event_log), labels, as_of, [str(bundle.folder)], features)
    services = [d for d in definitions(tmp_path) if isinstance(d, FeatureService)]
    (mine,) = (s for s in services if s.name == bundle.metadata["feature_service"])
    embeddings = {p.name for p in mine.feature_view_projections if "_embedding_" in p.name}
    assert embeddings == {f"{kind}_embedding_{bundle.sha12}" for kind in ENTITY_KINDS}


def test_the_embeddings_step_writes_one_row_for_each_entity(
    event_log: Path, small_world: Path, bundle: Bundle, tmp_path: Path
) -> None:
    as_of, features = "2026-01-10T00:00:00+00:00", dsl.Dataset(uri=str(tmp_path))
    labels = str(small_world / "labels")
    write_embeddings.python_func(str(event_log), labels, as_of, [str(bundle.folder)], features)
    table = pq.read_table(tmp_path / "embeddings" / bundle.sha12 / "rider.parquet")
    counts = features.metadata[bundle.folder.name]
    assert table.num_rows == counts["rider"] == len(set(table["rider_id"].to_pylist()))
    assert {len(v) for v in table["embedding"].to_pylist()} == {bundle.metadata["embedding_dim"]} == {EMBEDDING_DIM}
    assert set(table["event_timestamp"].to_pylist()) == {datetime(2026, 1, 10, tzinfo=UTC)}


def test_an_entity_that_left_the_window_is_written_as_empty_for_a_week(
    event_log: Path, events: pa.Table, bundle: Bundle, tmp_path: Path
) -> None:
    acted = events.select(["rider_id", "event_timestamp"]).to_pandas().groupby("rider_id")["event_timestamp"].max()
    for days in (29, 36, 50):
        as_of = acted.max() + pd.Timedelta(days=days)
        write_from_log(bundle.folder, event_log, tmp_path / "no labels", as_of.to_pydatetime(), tmp_path)
        table = pq.read_table(tmp_path / "embeddings" / bundle.sha12 / "rider.parquet").to_pylist()
        empty = {row["rider_id"] for row in table if row["embedding"] is None}
        window, week = as_of - pd.Timedelta(days=30), as_of - pd.Timedelta(days=37)
        assert empty == set(acted[(acted >= week) & (acted < window)].index)
        assert {row["rider_id"] for row in table} - empty == set(acted[acted >= window].index)


@pytest.mark.parametrize("step", [train_gnn, write_embeddings])
def test_a_step_compiles_to_the_same_bytes_twice(step: object, tmp_path: Path) -> None:
    for name in ("a.yaml", "b.yaml"):
        compiler.Compiler().compile(step, str(tmp_path / name))
    assert (tmp_path / "a.yaml").read_bytes() == (tmp_path / "b.yaml").read_bytes()


def test_a_split_without_fraud_is_refused_by_name(
    log: EntityLog, labels: pd.DataFrame, gnn_settings: GnnSettings
) -> None:
    honest = labels.assign(y=labels.y.where(labels.split != "valid", 0.0))
    with pytest.raises(TooFewLabels, match="'valid'"):
        train(log, honest, gnn_settings)


def test_the_width_of_an_embedding_is_no_choice_of_the_training() -> None:
    """The transformer and Feast's views know one width; a network of another could not be served."""
    with pytest.raises(ValidationError, match="embedding_dim"):
        GnnSettings.model_validate({"embedding_dim": 8})


@contextmanager
def _predictor(folder: Path, log: Path) -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "inference_services.gnn_predictor", "--model_name=fraud-gnn"]
    command += [f"--model_dir={folder}", f"--http_port={port}", "--enable_grpc=false"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}
    with (
        log.open("wb") as sink,
        subprocess.Popen(command, cwd=ROOT, env=environment, stdout=sink, stderr=sink) as process,
    ):
        try:
            deadline = time.monotonic() + 90
            url = f"http://127.0.0.1:{port}/v2/models/fraud-gnn"
            while True:
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                try:
                    if httpx.get(f"{url}/ready", timeout=5).status_code == 200:
                        break
                except httpx.TransportError:
                    time.sleep(0.1)
            yield url
        finally:
            process.terminate()


def _input(name: str, values: np.ndarray) -> dict[str, object]:
    datatype = "INT64" if values.dtype == np.int64 else "FP32"
    return {"name": name, "datatype": datatype, "shape": list(values.shape), "data": values.ravel().tolist()}


def test_the_process_scores_a_lone_event_and_refuses_what_it_cannot_read(bundle: Bundle, tmp_path: Path) -> None:
    d = bundle.metadata["embedding_dim"]
    none, one = np.zeros(0, np.int64), np.zeros(1, np.int64)
    tensors: dict[str, np.ndarray] = {
        "event_features": np.zeros((1, len(HEAD_FEATURES)), np.float32),
        "edge_features": np.zeros((0, len(EDGE_FEATURES)), np.float32),
        "edge_index": np.zeros((2, 0), np.int64),
        "endpoint_kind": one,
        "endpoint_event": one,
        "neighbour_kind": none,
    }
    for side, m in (("endpoint", 1), ("neighbour", 0)):
        tensors[f"{side}_embedding_{bundle.sha12}"] = np.zeros((m, d), np.float32)
        tensors[f"{side}_known_{bundle.sha12}"] = np.zeros(m, np.float32)
    inputs = [_input(name, values) for name, values in tensors.items()]
    with _predictor(bundle.folder, tmp_path / "log") as url:
        good = httpx.post(f"{url}/infer", json={"inputs": inputs}, timeout=10)
        bad = httpx.post(f"{url}/infer", json={"inputs": inputs[:-1]}, timeout=10)
        old = httpx.post(f"{url.replace('/v2/', '/v1/')}:predict", json={"instances": [[1.0]]}, timeout=10)
    assert good.status_code == 200
    answer = {output["name"]: output["data"] for output in good.json()["outputs"]}
    assert 0 < answer["probability"][0] < 1
    assert good.json()["model_version"] == bundle.label
    assert bad.status_code == 400
    assert "neighbour_known" in bad.json()["error"]
    assert old.status_code == 400, old.text
    assert "V2 protocol only" in old.json()["error"]
