"""The transformer: degradation with a fake store and fake predictors at the transport seam."""

from __future__ import annotations

from typing import Any

import numpy as np
import orjson
import pytest

from feature_repo.feature_names import MODEL_FEATURES, STORE_FEATURES
from feature_repo.settings import EMBEDDING_DIM
from inference_services.transformer.decision_record import DecisionRecord
from tests.contract.fusion_bundle import G1, G2, L1, L2
from tests.contract.played_parts import (
    MISSHAPEN,
    SEEN,
    DecideOne,
    FakeStore,
    answering,
    broken,
    endless,
    nonsense,
    refusing,
)
from tests.contract.predictor_fake import Handler


def sigmoid(x: float) -> float:
    return float(1 / (1 + np.exp(-x)))


def test_both_models_are_fused_by_the_row_of_the_pair_that_answered(decide: DecideOne):
    record = decide(answering(1.0, L1), answering(2.0, G1))
    assert record["fraud_probability"] == pytest.approx(sigmoid(0.6 * 1.0 + 0.5 * 2.0 + 0.1))
    assert record["lightgbm_probability"] == pytest.approx(sigmoid(1.0))
    assert record["gnn_probability"] == pytest.approx(sigmoid(2.0))
    assert (record["lightgbm_version"], record["gnn_version"]) == (f"3-{L1}", f"3-{G1}")
    assert record["degraded"] == ""
    assert record["seen_sequence"] == SEEN
    assert set(DecisionRecord.from_json(orjson.dumps(record)).features.by_name()) == set(MODEL_FEATURES)


@pytest.mark.parametrize("gone", [refusing, broken, nonsense, *MISSHAPEN])
def test_graph_model_gone_leaves_lightgbm_alone(gone: Handler, decide: DecideOne):
    record = decide(answering(1.0, L1), gone)
    assert record["fraud_probability"] == pytest.approx(sigmoid(1.0))
    assert (record["gnn_probability"], record["gnn_version"]) == (-1.0, None)
    assert record["degraded"] == "gnn"


@pytest.mark.parametrize("gone", [refusing, broken, nonsense, *MISSHAPEN])
def test_lightgbm_gone_leaves_the_graph_model_alone(gone: Handler, decide: DecideOne):
    record = decide(gone, answering(2.0, G1))
    assert record["fraud_probability"] == pytest.approx(sigmoid(2.0))
    assert record["lightgbm_probability"] == -1.0
    assert record["degraded"] == "lightgbm"
    assert record["decision"] == "block"
    assert [reason["kind"] for reason in record["reasons"]] == ["graph"]


def test_store_down_leaves_request_features_and_skips_the_graph_model(decide: DecideOne):
    seen: list[dict[str, Any]] = []
    record = decide(answering(1.0, L1, seen), answering(2.0, G1), store=FakeStore(available=False))
    assert record["fraud_probability"] == pytest.approx(sigmoid(0.9 * 1.0 - 0.3))
    assert record["degraded"] == "store,gnn"
    sent = {t["name"]: t["data"] for t in seen[0]["inputs"]}
    assert all(sent[name] == [None] for name in STORE_FEATURES)
    assert sent["amount"] == [250_000.0]


@pytest.mark.parametrize("store", [FakeStore(embeddings=False), FakeStore(embeddings_delay_s=30)])
def test_embeddings_that_cannot_be_read_leave_both_models_and_are_named(store: FakeStore, decide: DecideOne):
    seen: list[dict[str, Any]] = []
    record = decide(answering(1.0, L1), answering(2.0, G1, seen), store=store, budget_s=1.0)
    assert record["fraud_probability"] == pytest.approx(sigmoid(0.8 * 1.0 + 0.3 * 2.0 - 0.1))
    assert record["degraded"] == "graph"
    assert [reason["kind"] for reason in record["reasons"]] == ["feature"]
    sent = {t["name"]: t["data"] for t in seen[0]["inputs"]}
    assert sent[f"endpoint_embedding_{G1}"] == [None] * 3 * EMBEDDING_DIM
    assert sent[f"neighbour_embedding_{G1}"] == [None] * 2 * EMBEDDING_DIM
    assert sent[f"endpoint_known_{G1}"] == [0.0] * 3
    assert all(x is not None for x in sent["event_features"])


@pytest.mark.parametrize(
    ("lightgbm", "gnn", "log_odds", "degraded"),
    [
        (answering(1.0, L1), broken, 1.0, "graph,gnn"),
        (answering(1.0, L1), answering(2.0, G2), 1.0, "graph,gnn"),
        (broken, answering(2.0, G1), 2.0, "graph,lightgbm"),
    ],
)
def test_without_embeddings_either_model_may_be_left_alone(
    lightgbm: Handler, gnn: Handler, log_odds: float, degraded: str, decide: DecideOne
):
    record = decide(lightgbm, gnn, store=FakeStore(embeddings=False))
    assert record["fraud_probability"] == pytest.approx(sigmoid(log_odds))
    assert record["degraded"] == degraded


def test_an_older_fusion_leaves_the_graph_model_out_where_embeddings_cannot_be_read(decide: DecideOne):
    seen: list[dict[str, Any]] = []
    record = decide(answering(1.0, L1), answering(2.0, G1, seen), store=FakeStore(embeddings=False), older=True)
    assert record["fraud_probability"] == pytest.approx(sigmoid(1.0))
    assert (record["degraded"], seen) == ("gnn", [])


def test_everything_down_is_reviewed_and_named(decide: DecideOne):
    record = decide(refusing, refusing, store=FakeStore(available=False))
    assert (record["decision"], record["fraud_probability"]) == ("review", -1.0)
    assert record["degraded"] == "store,gnn,lightgbm"


YOUNG = {"tenure": {"under 7 days": 2.0}}


@pytest.mark.parametrize(
    ("offsets", "decision", "offset"),
    [
        ({}, "review", 0.0),
        (YOUNG, "allow", 2.0),
        ({**YOUNG, "city": {"tehran": -3.5}}, "block", -1.5),
        ({"tenure": {"90 days or more": 2.0}, "city": {"isfahan": 2.0}}, "review", 0.0),
    ],
)
def test_the_decision_is_made_on_the_odds_less_the_offsets_of_its_groups(
    offsets: dict[str, dict[str, float]], decision: str, offset: float, decide: DecideOne
):
    record = decide(answering(0.0, L1), answering(0.0, G1), offsets=offsets)
    assert record["fraud_probability"] == pytest.approx(sigmoid(0.1))
    assert (record["decision"], record["alarm_offset"]) == (decision, offset)


def test_a_tenure_that_nobody_knows_has_no_offset(decide: DecideOne):
    asked = answering(1.0, L1), answering(2.0, G1)
    record = decide(*asked, store=FakeStore(available=False), offsets={**YOUNG, "city": {"tehran": 0.5}})
    assert record["alarm_offset"] == 0.5
    record = decide(refusing, refusing, store=FakeStore(available=False), offsets=YOUNG)
    assert (record["decision"], record["fraud_probability"]) == ("review", -1.0)


def test_models_that_hang_are_given_up(decide: DecideOne):
    record = decide(endless, endless, budget_s=0.2)
    assert (record["decision"], record["degraded"]) == ("review", "gnn,lightgbm")


def test_slow_store_is_given_up(decide: DecideOne):
    record = decide(answering(1.0, L1), answering(2.0, G1), store=FakeStore(delay_s=30), budget_s=1.0)
    assert record["degraded"] == "store,gnn"


def test_unknown_pair_falls_back_to_lightgbm_alone(decide: DecideOne):
    record = decide(answering(1.0, L1), answering(2.0, G2))
    assert record["fraud_probability"] == pytest.approx(sigmoid(1.0))
    assert record["degraded"] == "gnn"


def test_unknown_lightgbm_version_falls_back_to_the_graph_model(decide: DecideOne):
    record = decide(answering(1.0, L2), answering(2.0, G1))
    assert record["fraud_probability"] == pytest.approx(sigmoid(2.0))
    assert record["degraded"] == "lightgbm"


def test_two_unknown_versions_are_reviewed(decide: DecideOne):
    record = decide(answering(1.0, L2), answering(2.0, G2))
    assert (record["decision"], record["degraded"]) == ("review", "gnn,lightgbm")


def test_graph_model_gets_the_event_subgraph(decide: DecideOne):
    seen: list[dict[str, Any]] = []
    decide(answering(1.0, L1), answering(2.0, G1, seen))
    sent = {t["name"]: t for t in seen[0]["inputs"]}
    assert sent["endpoint_kind"]["data"] == [0, 2, 3]
    assert sent["endpoint_event"]["data"] == [0, 0, 0]
    assert sent["neighbour_kind"]["data"] == [2, 1]
    assert sent["edge_index"]["data"] == [0, 1, 0, 0]
    assert sent[f"endpoint_embedding_{G1}"]["shape"] == [3, EMBEDDING_DIM]
    assert sent[f"neighbour_known_{G1}"]["data"] == [1.0, 1.0]
    assert sent["event_features"]["shape"][0] == 1
