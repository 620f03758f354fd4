"""An event whose embeddings could not be read is scored from its own features, and touches no other event."""

from __future__ import annotations

import asyncio
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from components.train_gnn.bundle import fit_calibration
from components.train_gnn.entity_graph import EntityLog
from components.train_gnn.logic import TrainedGnn
from components.train_gnn.replay import Layout, score_log
from inference_services.bundle import Bundle, write_manifest
from inference_services.calibration import FULL, NO_GRAPH, read_calibrations
from inference_services.errors import BundleError, InvalidRequest
from inference_services.gnn_predictor.influence import INFLUENCES
from inference_services.gnn_predictor.model import GnnPredictor
from inference_services.graph_parts import ENDPOINT_INFLUENCE, NEIGHBOUR_INFLUENCE
from tests.unit.gnn.test_influence import Graph, as_request, make_graph


@pytest.fixture(scope="module")
def model(bundle: Bundle) -> GnnPredictor:
    return GnnPredictor("fraud-gnn", bundle.folder)


def answer(model: GnnPredictor, bundle: Bundle, graph: Graph, *outputs: str) -> dict[str, np.ndarray]:
    response = asyncio.run(model.predict(as_request(graph, bundle, *outputs)))
    return {output.name: output.as_numpy() for output in response.outputs}


def unread(graph: Graph, side: str, rows: np.ndarray | int) -> Graph:
    """The same request when those embeddings could not be read."""
    embedding = graph[f"{side}_embedding"].copy()
    embedding[rows] = np.nan
    return {**graph, f"{side}_embedding": embedding}


def all_unread(graph: Graph) -> Graph:
    return unread(unread(graph, "endpoint", slice(None)), "neighbour", slice(None))


@pytest.mark.parametrize("n", [3, 40])
def test_events_without_their_graph_are_scored_and_calibrated_as_in_training(
    bundle: Bundle, model: GnnPredictor, log: EntityLog, trained: TrainedGnn, n: int
) -> None:
    rows = np.flatnonzero(log.entities[:, 2] >= 0)[-n:]
    served = {**make_graph(n), "event_features": log.features[rows]}
    got = answer(model, bundle, all_unread(served))
    nobody = Layout.of(log, rows, np.zeros(0, np.int64), np.ones(len(rows), np.bool_)).embedded(
        trained.network.head[0].weight.new_zeros(0, 16)
    )
    expected = trained.network(nobody).detach().double().numpy()
    np.testing.assert_allclose(got["raw_score"], expected, rtol=0, atol=1e-5)
    platt = read_calibrations(bundle.read_json("calibration.json"), (NO_GRAPH,))[NO_GRAPH]
    np.testing.assert_allclose(got["log_odds"], platt.log_odds(got["raw_score"]), atol=1e-12)
    np.testing.assert_allclose(got["probability"], 1 / (1 + np.exp(-got["log_odds"])), atol=1e-12)


def test_a_log_is_replayed_without_its_graph(
    log: EntityLog, trained: TrainedGnn, scores: pd.Series, scores_without_graph: pd.Series, labels: pd.DataFrame
) -> None:
    assert list(scores.index) == list(scores_without_graph.index)
    assert (scores != scores_without_graph).mean() > 0.99
    shuffled = log.history_counts.copy()
    shuffled[:] = 0
    pd.testing.assert_series_equal(
        score_log(trained.network, replace(log, history_counts=shuffled), graph=False), scores_without_graph
    )
    held = labels[(labels.split == "calibrate") & labels.event_id.isin(scores.index)]
    predicted = fit_calibration(scores_without_graph, labels).probability(
        scores_without_graph[held.event_id].to_numpy()
    )
    assert predicted.mean() == pytest.approx(held.y.mean(), rel=1e-6)


@pytest.mark.parametrize("side", ["endpoint", "neighbour"])
def test_one_unread_embedding_takes_the_graph_of_its_event_and_of_no_other(
    bundle: Bundle, model: GnnPredictor, side: str
) -> None:
    graph = make_graph(6, seed=3)
    whole, nothing = answer(model, bundle, graph), answer(model, bundle, all_unread(graph))
    of_row = graph["endpoint_event"][graph["edge_index"][1]] if side == "neighbour" else graph["endpoint_event"]
    row = int(np.flatnonzero(of_row == 2)[0])
    got = answer(model, bundle, unread(graph, side, row))
    mine = np.arange(6) == 2
    for name in ("raw_score", "log_odds", "probability"):
        np.testing.assert_allclose(got[name], np.where(mine, nothing[name], whole[name]), rtol=0, atol=1e-5)
    assert abs(whole["raw_score"][2] - nothing["raw_score"][2]) > 1e-3


def test_a_missing_past_has_no_influence(bundle: Bundle, model: GnnPredictor) -> None:
    graph = make_graph(4, seed=1)
    of_endpoint = graph["endpoint_event"]
    of_edge = of_endpoint[graph["edge_index"][1]]
    whole = answer(model, bundle, graph, *INFLUENCES)
    got = answer(model, bundle, unread(graph, "endpoint", np.flatnonzero(of_endpoint == 1)), *INFLUENCES)
    for name, owner in ((NEIGHBOUR_INFLUENCE, of_edge), (ENDPOINT_INFLUENCE, of_endpoint)):
        np.testing.assert_allclose(got[name], np.where(owner == 1, 0.0, whole[name]), rtol=0, atol=1e-5)
        assert np.abs(whole[name][owner == 1]).max() > 0


@pytest.mark.parametrize("name", ["endpoint_embedding", "neighbour_embedding"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_embedding_that_is_not_a_number_in_part_is_refused(
    bundle: Bundle, model: GnnPredictor, name: str, value: float
) -> None:
    graph = make_graph()
    graph[name] = graph[name].copy()
    graph[name][0, 1] = value
    with pytest.raises(InvalidRequest, match=f"'{name}' holds a value that is not finite"):
        answer(model, bundle, graph)


@pytest.mark.parametrize("name", ["endpoint_known", "neighbour_known", "edge_features", "event_features"])
def test_nan_elsewhere_is_refused_though_embeddings_are_missing(bundle: Bundle, model: GnnPredictor, name: str) -> None:
    graph = all_unread(make_graph())
    graph[name] = np.full_like(graph[name], np.nan)
    with pytest.raises(InvalidRequest, match=f"'{name}' holds a value that is not finite"):
        answer(model, bundle, graph)


def with_calibrations(bundle: Bundle, folder: Path, content: dict[str, object]) -> Bundle:
    shutil.copytree(bundle.folder, folder)
    (folder / "calibration.json").write_text(json.dumps(content))
    return write_manifest(folder, "fraud-gnn", {})


def test_an_older_bundle_scores_with_the_graph_and_refuses_without(bundle: Bundle, tmp_path: Path) -> None:
    whole = bundle.read_json("calibration.json")
    older = with_calibrations(bundle, tmp_path / "older", {FULL: whole[FULL]})
    model = GnnPredictor("fraud-gnn", older.folder)
    graph = make_graph()
    assert np.isfinite(answer(model, older, graph)["log_odds"]).all()
    with pytest.raises(InvalidRequest, match="was not trained to score without them"):
        answer(model, older, all_unread(graph))


def test_a_calibration_that_is_there_must_be_usable(bundle: Bundle, tmp_path: Path) -> None:
    whole = bundle.read_json("calibration.json")
    odd = with_calibrations(bundle, tmp_path / "odd", {**whole, NO_GRAPH: {"slope": 1.0}})
    with pytest.raises(BundleError, match="no usable slope and intercept for the mask 'no_graph'"):
        GnnPredictor("fraud-gnn", odd.folder)
