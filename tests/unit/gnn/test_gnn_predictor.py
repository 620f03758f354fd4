"""What is served equals what training scored, and what is refused."""

from __future__ import annotations

import asyncio
import shutil
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from kserve import InferInput, InferRequest, InferResponse

from components.train_gnn.bundle import fit_calibration
from components.train_gnn.entity_graph import DAY_US, EntityLog
from components.train_gnn.replay import score_log, scored_rows
from components.write_embeddings.logic import write_embeddings
from feature_repo.event_batch import EventBatch
from feature_repo.graph_features import CONTEXT_FEATURES, neighbour_history
from feature_repo.pseudonyms import ENTITY_KINDS, parse_pseudonym
from inference_services.bundle import Bundle, write_manifest
from inference_services.errors import BundleError, InvalidRequest
from inference_services.gnn_predictor.model import GnnPredictor
from inference_services.gnn_predictor.network import load_network
from inference_services.subgraph import Subgraph

_DATATYPES = {"int64": "INT64", "float32": "FP32"}


class StoredEmbeddings:
    """Looks embeddings up in the files that `write_embeddings` wrote, by pseudonym, as the online store would."""

    def __init__(self, folder: Path) -> None:
        self.known: dict[tuple[int, int, int], np.ndarray] = {}
        for code, kind in enumerate(ENTITY_KINDS):
            table = pq.read_table(folder / f"{kind}.parquet")
            for name, vector in zip(
                table[f"{kind}_id"].to_pylist(), table["embedding"].to_numpy(zero_copy_only=False), strict=True
            ):
                key_id, hash64 = parse_pseudonym(name)
                self.known[code, hash64, key_id] = vector

    def __call__(self, kinds: Any, ids: Any, key_ids: Any) -> tuple[np.ndarray, np.ndarray]:
        d = len(next(iter(self.known.values())))
        found = [self.known.get((int(k), int(i), int(n))) for k, i, n in zip(kinds, ids, key_ids, strict=True)]
        vectors = [np.zeros(d) if v is None else v for v in found]
        flags = np.array([v is not None for v in found], np.float32)
        return np.array(vectors, np.float32).reshape(-1, d), flags


def request(tensors: dict[str, np.ndarray]) -> InferRequest:
    inputs = []
    for name, values in tensors.items():
        tensor = InferInput(name, list(values.shape), _DATATYPES[str(values.dtype)])
        tensor.set_data_from_numpy(values, binary_data=True)
        inputs.append(tensor)
    return InferRequest(model_name="fraud-gnn", infer_inputs=inputs)


def ask(model: GnnPredictor, tensors: dict[str, np.ndarray]) -> InferResponse:
    return asyncio.run(model.predict(request(tensors)))


def answer(model: GnnPredictor, tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {output.name: output.as_numpy() for output in ask(model, tensors).outputs}


@pytest.fixture(scope="module")
def model(bundle: Bundle) -> GnnPredictor:
    return GnnPredictor("fraud-gnn", bundle.folder)


@pytest.fixture(scope="module")
def last_day(log: EntityLog) -> tuple[int, np.ndarray]:
    """The last day, and the rows of its scored events."""
    day = int(log.arrival_day.max())
    return day, scored_rows(log, [day])[day]


@pytest.fixture(scope="module")
def tensors(
    *,
    events: pa.Table,
    event_log: Path,
    small_world: Path,
    context: pd.DataFrame,
    bundle: Bundle,
    last_day: tuple[int, np.ndarray],
    tmp_path_factory: Any,
) -> dict[str, np.ndarray]:
    """The request that a transformer would send for the last day's events."""
    day, rows = last_day
    offline = tmp_path_factory.mktemp("offline")
    at = datetime.fromtimestamp(day * DAY_US / 1e6, UTC)
    counts = write_embeddings(bundle.folder, event_log, small_world / "labels", at, offline)
    assert all(counts.values())
    lookup = StoredEmbeddings(offline / "embeddings" / bundle.sha12)
    batch = EventBatch.from_arrow(events)
    history, seen = neighbour_history(batch)
    known = context.set_index("event_id").loc[batch["event_id"][rows]]
    features = {name: known[name].to_numpy() for name in CONTEXT_FEATURES}
    graph = Subgraph.build(batch.take(rows), features, history[rows], seen[rows])
    return graph.tensors({bundle.sha12: lookup(graph.kinds, graph.ids, graph.key_ids)})


def test_the_served_score_equals_the_replayed_one(
    model: GnnPredictor, tensors: dict[str, np.ndarray], events: pa.Table, scores: pd.Series, last_day: Any
) -> None:
    ids = np.array(events.column("event_id").to_pylist())[last_day[1]]
    np.testing.assert_allclose(answer(model, tensors)["raw_score"], scores[ids].to_numpy(), rtol=0, atol=1e-5)


def test_the_answer_is_calibrated_and_names_its_version(
    model: GnnPredictor,
    tensors: dict[str, np.ndarray],
    bundle: Bundle,
    scores: pd.Series,
    labels: pd.DataFrame,
) -> None:
    got = answer(model, tensors)
    platt = fit_calibration(scores, labels)
    np.testing.assert_allclose(got["log_odds"], platt.log_odds(got["raw_score"]), atol=1e-12)
    np.testing.assert_allclose(got["probability"], 1 / (1 + np.exp(-got["log_odds"])), atol=1e-12)
    assert ask(model, tensors).model_version == bundle.label
    held = labels[(labels.split == "calibrate") & labels.event_id.isin(scores.index)]
    predicted = platt.probability(scores[held.event_id].to_numpy())
    assert predicted.mean() == pytest.approx(held.y.mean(), rel=1e-6)


def test_a_score_does_not_depend_on_the_batch(
    model: GnnPredictor, events: pa.Table, tensors: dict[str, np.ndarray], bundle: Bundle
) -> None:
    whole = answer(model, tensors)["raw_score"]
    mine = tensors["endpoint_event"] == 3
    edges = mine[tensors["edge_index"][1]]
    first, start = int(np.argmax(mine)), int(np.argmax(edges))
    alone = {
        name: values[mine if name.startswith("endpoint") else edges]
        if values.ndim == 1 or "embedding" in name
        else values
        for name, values in tensors.items()
    }
    alone["endpoint_event"] = np.zeros_like(alone["endpoint_event"])
    alone["edge_index"] = tensors["edge_index"][:, edges] - np.array([[start], [first]])
    alone["edge_features"] = tensors["edge_features"][edges]
    alone["event_features"] = tensors["event_features"][3:4]
    np.testing.assert_allclose(answer(model, alone)["raw_score"], whole[3:4], rtol=0, atol=1e-5)


def test_a_bundle_read_back_scores_the_same(bundle: Bundle, log: EntityLog, scores: pd.Series) -> None:
    pd.testing.assert_series_equal(score_log(load_network(bundle.folder), log), scores, rtol=0, atol=1e-6)


def test_a_large_batch_is_scored_beside_the_event_loop_and_a_small_one_in_it(
    model: GnnPredictor, tensors: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    scored_in = []
    score = model._score
    monkeypatch.setattr(model, "_score", lambda graph: scored_in.append(threading.get_ident()) or score(graph))
    whole = ask(model, tensors)
    assert whole.outputs[0].shape[0] > 16
    lone = {name: values[:0] if values.ndim == 1 or "embedding" in name else values for name, values in tensors.items()}
    lone["edge_index"], lone["edge_features"] = tensors["edge_index"][:, :0], tensors["edge_features"][:0]
    lone["event_features"] = tensors["event_features"][:1]
    ask(model, lone)
    here = threading.get_ident()
    assert [ident == here for ident in scored_in] == [False, True]


def test_the_model_picks_its_own_embeddings_among_several(
    model: GnnPredictor, tensors: dict[str, np.ndarray], bundle: Bundle
) -> None:
    others = {
        name.replace(bundle.sha12, "f" * 12): np.ones_like(values)
        for name, values in tensors.items()
        if name.endswith(bundle.sha12)
    }
    np.testing.assert_array_equal(
        answer(model, {**others, **tensors})["raw_score"], answer(model, tensors)["raw_score"]
    )


def test_embeddings_of_another_version_alone_are_refused(
    model: GnnPredictor, tensors: dict[str, np.ndarray], bundle: Bundle
) -> None:
    renamed = {name.replace(bundle.sha12, "f" * 12): values for name, values in tensors.items()}
    with pytest.raises(InvalidRequest, match=f"'endpoint_embedding_{bundle.sha12}' is missing"):
        ask(model, renamed)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("endpoint_event", 10**6, "'endpoint_event' holds 1000000 at row 0"),
        ("neighbour_kind", -1, "'neighbour_kind' holds -1 at row 0"),
        ("edge_index", 10**6, "'edge_index' holds 1000000"),
        ("event_features", np.nan, "'event_features' holds a value that is not finite"),
    ],
)
def test_a_graph_that_points_outside_of_itself_is_refused(
    model: GnnPredictor, tensors: dict[str, np.ndarray], name: str, value: float, message: str
) -> None:
    broken = tensors[name].copy()
    broken.flat[0] = value
    with pytest.raises(InvalidRequest, match=message):
        ask(model, {**tensors, name: broken})


def test_an_event_with_two_endpoints_of_a_kind_is_refused(model: GnnPredictor, tensors: dict[str, np.ndarray]) -> None:
    kinds = tensors["endpoint_kind"].copy()
    kinds[1] = kinds[0]
    with pytest.raises(InvalidRequest, match="two endpoints of one kind"):
        ask(model, {**tensors, "endpoint_kind": kinds})


@pytest.mark.parametrize("feature", ["log_age_hours", "log_times_with_device", "log_rider_tenure_days", "log_amount"])
def test_a_bundle_of_other_features_is_refused(bundle: Bundle, feature: str, tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    shutil.copytree(bundle.folder, folder)
    config = (folder / "config.json").read_text()
    (folder / "config.json").write_text(config.replace(feature, "log_of_something_else"))
    write_manifest(folder, "fraud-gnn", {})
    with pytest.raises(BundleError, match="train again"):
        GnnPredictor("fraud-gnn", folder)
