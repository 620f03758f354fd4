"""What a score may depend on, and what it may not."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import torch

from components.train_gnn.entity_graph import DAY_US, NODE_FEATURES, EntityLog
from components.train_gnn.logic import TrainedGnn, train
from components.train_gnn.replay import embed_snapshot, score_log
from components.train_gnn.settings import GnnSettings
from feature_repo.event_batch import EventBatch
from feature_repo.graph_features import event_interactions
from feature_repo.pseudonyms import ENTITY_KINDS, format_pseudonym, parse_pseudonym
from inference_services.gnn_predictor.entity_layers import PAIR_FEATURES, RELATIONS

Read = Callable[[pa.Table], EntityLog]


def _with(table: pa.Table, name: str, rows: np.ndarray, value: object) -> pa.Table:
    """The table with `value` in a column's rows, where they had a value."""
    old = table.column(name)
    chosen = pc.and_(pa.array(rows), old.combine_chunks().is_valid())
    new = pc.if_else(chosen, pa.scalar(value, old.type), old)
    return table.set_column(table.column_names.index(name), name, new)


@pytest.fixture(scope="module")
def middle(events: pa.Table) -> int:
    """An event in the middle of a middle day: the day's snapshot lies before it, and half of the day after it."""
    return len(events) * 5 // 8


def test_later_events_change_no_earlier_score(
    events: pa.Table, read: Read, trained: TrainedGnn, scores: pd.Series, middle: int
) -> None:
    later = np.arange(len(events)) > middle
    changed = events
    for kind in ("rider", "driver", "device"):
        changed = _with(changed, f"{kind}_id", later, format_pseudonym(kind, 1, 99))
    changed = _with(changed, "amount", later, 1)
    after = score_log(trained.network, read(changed))
    seen = set(events.column("event_id").to_pylist()[: middle + 1])
    earlier = scores.index.isin(seen)
    np.testing.assert_allclose(after[scores.index][earlier], scores[earlier], rtol=0, atol=1e-5)
    assert (abs(after[scores.index][~earlier] - scores[~earlier]) > 1e-3).any()


def test_labels_observed_on_a_day_or_later_change_no_score_up_to_it(
    events: pa.Table, label_log: pa.Table, context: pd.DataFrame, trained: TrainedGnn, scores: pd.Series
) -> None:
    log = EntityLog.read(events, label_log, context)
    first, last = int(log.arrival_day[0]), int(log.arrival_day[-1])
    day = (first + last) // 2
    later = pc.greater_equal(label_log.column("observed_at").cast(pa.int64()), day * DAY_US)
    flipped = pc.if_else(later, pc.invert(label_log.column("is_fraud")), label_log.column("is_fraud"))
    fewer = label_log.filter(pc.invert(later))
    flipped_log = label_log.set_column(label_log.column_names.index("is_fraud"), "is_fraud", flipped)
    assert len(fewer) < len(label_log)
    upto = scores.index.isin(set(log.event_id[log.arrival_day <= day]))
    for changed in (flipped_log, fewer):
        after = score_log(trained.network, EntityLog.read(events, changed, context))[scores.index]
        np.testing.assert_array_equal(after[upto], scores[upto])
        assert (abs(after[~upto] - scores[~upto]) > 1e-4).any()


def test_days_without_any_graph_are_trained_on_and_scored(
    events: pa.Table, log: EntityLog, read: Read, labels: pd.DataFrame, gnn_settings: GnnSettings
) -> None:
    """Every third day alone, under a window of one day: no snapshot has an edge, nor an entity."""
    day = log.arrival_day - log.arrival_day[0]
    apart = read(events.filter(pa.array(day % 3 == 0)))
    days = np.unique(apart.arrival_day)
    assert not any(len(apart.snapshot(int(d) * DAY_US, 1).nodes) for d in days)
    split = labels.assign(split=np.where(day < 9, "train", "valid"))[day % 3 == 0]
    network = train(apart, split, gnn_settings.model_copy(update={"window_days": 1})).network
    assert all(torch.isfinite(values).all() for values in network.state_dict().values())
    assert np.isfinite(score_log(network, apart)).all()
    # And the network is fit for a day that has a graph.
    assert np.isfinite(score_log(network, log, [int(days[-1])])).all()


def test_an_event_s_score_follows_what_its_entities_did_before(
    events: pa.Table, log: EntityLog, read: Read, trained: TrainedGnn, scores: pd.Series
) -> None:
    """The opposite of the test above: the graph is used, so cutting the past away must show."""
    start = int(np.searchsorted(log.arrival_day, log.arrival_day.max() - 1))
    alone = score_log(trained.network, read(events.slice(start)))
    assert (abs(alone - scores[alone.index]) > 1e-3).mean() > 0.5


def test_a_days_events_do_not_reach_the_days_snapshot(events: pa.Table, log: EntityLog, read: Read) -> None:
    day = int(log.arrival_day.max()) - 2
    before = read(events.slice(0, int(np.searchsorted(log.arrival_day, day))))
    now, then = log.snapshot(day * DAY_US, 30), before.snapshot(day * DAY_US, 30)
    np.testing.assert_array_equal(log.pseudonym[now.nodes], before.pseudonym[then.nodes])
    np.testing.assert_array_equal(now.x, then.x)
    for name in ("edge_index", "relation", "edge_features"):
        np.testing.assert_array_equal(getattr(now, name), getattr(then, name))


def test_the_snapshot_counts_pairs_and_events_of_its_window(events: pa.Table, log: EntityLog) -> None:
    as_of = int(log.arrival_day.max()) * DAY_US
    snapshot = log.snapshot(as_of, 3)
    frame = events.to_pandas()
    micros = pd.Timestamp(as_of, unit="us", tz="UTC")
    frame = frame[(frame.ingested_at < micros) & (frame.event_timestamp >= micros - pd.Timedelta(days=3))]
    driver = frame.driver_id.value_counts().index[0]
    row = snapshot.x[list(log.pseudonym[snapshot.nodes]).index(driver)]
    of_driver = frame[frame.driver_id == driver]
    value = dict(zip(NODE_FEATURES, row, strict=True))
    assert value["is_driver"] == 1
    assert np.expm1(value["log_distinct_rider"]) == pytest.approx(of_driver.rider_id.nunique(), rel=1e-5)
    completed = (of_driver.event_type == "trip_completed").sum()
    assert np.expm1(value["log_trip_completed"]) == pytest.approx(completed, rel=1e-5)


def test_the_snapshot_s_edges_are_the_pairs_of_its_window_in_the_order_of_its_matrices(
    events: pa.Table, log: EntityLog
) -> None:
    as_of = int(log.arrival_day.max()) * DAY_US
    snapshot = log.snapshot(as_of, 3)
    micros = pd.Timestamp(as_of, unit="us", tz="UTC")
    frame = events.to_pandas()
    frame = frame[(frame.ingested_at < micros) & (frame.event_timestamp >= micros - pd.Timedelta(days=3))]
    expected = {}
    for other in ENTITY_KINDS[1:]:
        for (rider, met), group in frame.dropna(subset=f"{other}_id").groupby(["rider_id", f"{other}_id"]):
            expected["rider", other, rider, met] = expected[other, "rider", met, rider] = len(group)
    names = log.pseudonym[snapshot.nodes]
    keys = np.column_stack([snapshot.relation, *snapshot.edge_index[::-1]])
    assert keys.tolist() == sorted(keys.tolist())
    counts = np.round(np.expm1(snapshot.edge_features[:, PAIR_FEATURES.index("log_events")]))
    found = {
        (*RELATIONS[r], names[source], names[target]): int(count)
        for (r, target, source), count in zip(keys, counts, strict=True)
    }
    assert found == expected


def test_an_entity_never_seen_before_has_a_finite_score(
    events: pa.Table, label_log: pa.Table, read: Read, trained: TrainedGnn
) -> None:
    last = np.arange(len(events)) == len(events) - 1
    changed = events
    for number, kind in enumerate(("rider", "driver", "device", "payment_instrument")):
        changed = _with(changed, f"{kind}_id", last, format_pseudonym(kind, 1, number + 1))
    changed = _with(changed, "event_type", last, "trip_requested")
    event = changed.column("event_id")[-1].as_py()
    log = read(changed)
    assert np.isfinite(score_log(trained.network, log)[event])
    names, _ = embed_snapshot(trained.network, changed, label_log, int(log.arrival_day[-1]) * DAY_US)["rider"]
    assert format_pseudonym("rider", 1, 1) not in names


def test_equal_seeds_give_equal_weights(
    log: EntityLog, labels: pd.DataFrame, gnn_settings: GnnSettings, trained: TrainedGnn
) -> None:
    again = train(log, labels, gnn_settings).network.state_dict()
    other = train(log, labels, gnn_settings.model_copy(update={"seed": 8})).network.state_dict()
    weights = trained.network.state_dict()
    assert all(again[name].equal(weights[name]) for name in weights)
    assert not all(other[name].equal(weights[name]) for name in weights)


def test_an_interaction_s_counterpart_is_the_entity_that_it_names(log: EntityLog) -> None:
    exists = np.arange(log.history.shape[2]) < log.history_counts[..., None]
    seen, found = log.history[exists], log.history_entities[exists]
    parsed = [parse_pseudonym(name) for name in log.pseudonym[found]]
    assert seen["id"].tolist() == [hash64 for _, hash64 in parsed]
    assert seen["key_id"].tolist() == [key_id for key_id, _ in parsed]
    np.testing.assert_array_equal(seen["kind"], log.kind[found])


def test_an_event_s_neighbours_are_what_a_walk_over_the_log_finds(events: pa.Table, log: EntityLog) -> None:
    added, _ = event_interactions(EventBatch.from_arrow(events))
    past: dict[int, list[np.void]] = {}
    for row, of_event in enumerate(log.entities):
        for slot, entity in enumerate(of_event):
            seen = past.get(entity, [])[: log.history.shape[2]] if entity >= 0 else []
            assert log.history_counts[row, slot] == len(seen)
            assert log.history[row, slot, : len(seen)].tolist() == [record.tolist() for record in seen]
            assert not log.history[row, slot, len(seen) :].tobytes().strip(b"\0")
        for slot, entity in enumerate(of_event):
            if entity >= 0:
                past.setdefault(entity, []).insert(0, added[row, slot])
