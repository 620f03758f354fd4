"""The baseline's columns say what the graph network is told, and no more."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.compute as pc
import pytest

from components.train_gnn.entity_graph import DAY_US, NODE_FEATURES, EntityLog
from components.train_gnn.replay import Layout
from feature_repo.event_log import log_days, read_log
from feature_repo.graph_features import CONTEXT_FEATURES, EDGE_FEATURES
from feature_repo.ingestion import ingest_files
from feature_repo.labels import no_labels
from feature_repo.pseudonyms import Pseudonymiser
from pipelines.prequential.controls import looks_ahead
from pipelines.prequential.graph import graph_frame, neighbour_features, read_entity_log, snapshot_frame

WINDOW = 5
NO_FEATURES = pd.DataFrame(columns=["event_id", *CONTEXT_FEATURES])


@pytest.fixture(scope="module")
def log_folder(small_world: Path, pseudonymiser: Pseudonymiser, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prequential") / "log"
    ingest_files(small_world / "events", folder, pseudonymiser, days=8)
    return folder


@pytest.fixture(scope="module")
def log(log_folder: Path) -> EntityLog:
    return read_entity_log(read_log(log_folder), no_labels(), NO_FEATURES)


def test_each_entity_has_its_own_features_then_mean_and_maximum_of_its_neighbours(log: EntityLog) -> None:
    rows = np.random.default_rng(1).choice(np.flatnonzero(log.history_counts.sum(1) > 3), 40, replace=False)
    found = neighbour_features(log, log.event_id[rows], WINDOW).reshape(40, 4, -1)
    width, of_edge = len(NODE_FEATURES), len(EDGE_FEATURES)
    assert found.shape[2] == 3 * width + 2 * of_edge
    for k, row in enumerate(rows):
        snapshot = log.snapshot(int(log.arrival_day[row]) * DAY_US, WINDOW)
        x = dict(zip(snapshot.nodes.tolist(), snapshot.x, strict=True))
        for kind in range(4):
            own, mean, highest, mean_edge, highest_edge = np.split(
                found[k, kind], [width, 2 * width, 3 * width, 3 * width + of_edge]
            )
            np.testing.assert_array_equal(own, x.get(int(log.entities[row, kind]), np.full(width, np.nan)))
            others = log.history_entities[row, kind, : log.history_counts[row, kind]].tolist()
            near = [x[other] for other in others if other in x]
            np.testing.assert_allclose(mean, np.mean(near, 0) if near else np.full(width, np.nan), rtol=1e-5)
            np.testing.assert_array_equal(highest, np.max(near, 0) if near else np.full(width, np.nan))
            edges = edges_of(log, int(row), kind)
            nothing = np.full(of_edge, np.nan)
            np.testing.assert_allclose(mean_edge, edges.mean(0) if len(edges) else nothing, rtol=1e-5)
            np.testing.assert_array_equal(highest_edge, edges.max(0) if len(edges) else nothing)


def edges_of(log: EntityLog, row: int, kind: int) -> np.ndarray:
    """What the network reads of one entity's interactions."""
    layout = Layout.of(log, np.array([row]), np.zeros(0, np.int64)).graph
    endpoint = int(np.flatnonzero(layout.endpoint_kind.numpy() == kind)[0]) if log.entities[row, kind] >= 0 else -1
    return layout.edge_features.numpy()[layout.edge_index.numpy()[1] == endpoint]


def test_what_the_graph_says_about_an_event_is_the_same_when_the_log_ends_after_it(
    log: EntityLog, log_folder: Path
) -> None:
    table = read_log(log_folder)
    end = log_days(log_folder)[0] + timedelta(days=5)
    cut = read_entity_log(read_log(log_folder, before=end), no_labels(), NO_FEATURES)
    rows = np.arange(len(cut.event_id))[-300:]
    ids = cut.event_id[rows]
    whole = graph_frame(log, pd.Index(log.event_id).get_indexer(pd.Index(ids)), WINDOW)
    assert looks_ahead(whole, graph_frame(cut, rows, WINDOW)) == {}
    midnight = int(log.arrival_day[0] + 5) * DAY_US
    assert looks_ahead(snapshot_frame(log, midnight, WINDOW), snapshot_frame(cut, midnight, WINDOW)) == {}
    # A log that lacks one event of the day before is noticed: the check can fail.
    gone = pc.field("event_id") != str(log.event_id[np.flatnonzero(log.arrival_day < log.arrival_day[rows[0]])[-1]])
    other = read_entity_log(table.filter(gone), no_labels(), NO_FEATURES)
    again = graph_frame(other, pd.Index(other.event_id).get_indexer(pd.Index(ids)), WINDOW)
    assert looks_ahead(whole, again)
