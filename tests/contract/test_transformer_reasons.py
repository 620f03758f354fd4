"""Why an event was flagged: both models are asked, at once, and either may fail to say."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from tests.contract.fusion_bundle import G1, G2, L1, L2, PAYMENT
from tests.contract.played_parts import (
    DRIVER,
    EXPLAIN_GNN,
    EXPLAIN_LIGHTGBM,
    FEATURE_REASON,
    GRAPH_REASON,
    MISSHAPEN,
    DecideOne,
    answering,
    broken,
    endless,
    nonsense,
    refusing,
    without_neighbours,
)
from tests.contract.predictor_fake import Handler


def after(first: Handler, then: Handler) -> Handler:
    """Scores with one handler, explains with another."""
    return lambda request: then(request) if request.get("outputs") else first(request)


def test_flagged_events_are_explained_by_both_models(decide: DecideOne):
    asked: dict[str, list[dict[str, Any]]] = {"lightgbm": [], "gnn": []}
    flagged = decide(answering(3.0, L1, asked["lightgbm"]), answering(2.0, G1, asked["gnn"]))
    assert flagged["decision"] == "block"
    assert without_neighbours(flagged["reasons"]) == [FEATURE_REASON, GRAPH_REASON]
    assert [n["neighbour"] for n in flagged["reasons"][1]["neighbours"]] == [DRIVER, PAYMENT["device_id"]]
    assert [call.get("outputs") for call in asked["lightgbm"]] == [None, EXPLAIN_LIGHTGBM]
    assert [call.get("outputs") for call in asked["gnn"]] == [None, EXPLAIN_GNN]


def test_allowed_events_cost_no_second_call(decide: DecideOne):
    asked: list[dict[str, Any]] = []
    allowed = decide(answering(-3.0, L1, asked), answering(-2.0, G1, asked))
    assert (allowed["decision"], allowed["reasons"], len(asked)) == ("allow", [], 2)


def test_of_a_batch_only_the_flagged_events_are_asked_about(decide: DecideOne):
    def by_amount(version: str, explained: list[dict[str, Any]]) -> Handler:
        def handle(request: dict[str, Any]) -> httpx.Response:
            if request.get("outputs"):
                explained.append({t["name"]: t["data"] for t in request["inputs"]})
                return answering(3.0, version)(request)
            sent = {t["name"]: t["data"] for t in request["inputs"]}
            values = [3.0 if a > 100_000 else -9.0 for a in sent.get("amount", [9e9] * 3)]
            names = ("log_odds", "probability")
            outputs = [{"name": k, "datatype": "FP64", "shape": [len(values)], "data": values} for k in names]
            return httpx.Response(200, json={"model_version": f"3-{version}", "outputs": outputs})

        return handle

    features: list[dict[str, Any]] = []
    graphs: list[dict[str, Any]] = []
    events = [
        {**PAYMENT, "event_id": "e1", "amount": 5},
        {**PAYMENT, "event_id": "e2", "rider_id": "r1-00000000000000a2"},
        {**PAYMENT, "event_id": "e3", "amount": 5},
    ]
    records = decide(by_amount(L1, features), by_amount(G1, graphs), events=events)
    assert [r["decision"] for r in records] == ["allow", "block", "allow"]
    assert [len(r["reasons"]) for r in records] == [0, 2, 0]
    assert records[1]["reasons"][1]["entity"] == "r1-00000000000000a2"
    assert [sent["amount"] for sent in features] == [[250_000.0]]
    assert [(sent["endpoint_event"], sent["edge_index"]) for sent in graphs] == [([0, 0, 0], [0, 1, 0, 0])]


def test_both_models_are_asked_for_reasons_at_the_same_time(decide: DecideOne):
    barrier = asyncio.Barrier(2)

    def together(scored: Handler) -> Handler:
        async def meet(request: dict[str, Any]) -> httpx.Response:
            await barrier.wait()
            return scored(request)  # type: ignore[return-value]

        return after(scored, meet)

    record = decide(together(answering(3.0, L1)), together(answering(2.0, G1)))
    assert without_neighbours(record["reasons"]) == [FEATURE_REASON, GRAPH_REASON]


@pytest.mark.parametrize("gone", [refusing, broken, nonsense, *MISSHAPEN])
def test_reasons_of_one_model_outlive_the_other_s(gone: Handler, decide: DecideOne):
    record = decide(after(answering(3.0, L1), gone), answering(2.0, G1))
    assert (record["decision"], record["degraded"]) == ("block", "")
    assert without_neighbours(record["reasons"]) == [GRAPH_REASON]
    record = decide(answering(3.0, L1), after(answering(2.0, G1), gone))
    assert (record["decision"], record["degraded"]) == ("block", "")
    assert record["reasons"] == [FEATURE_REASON]


def test_a_model_that_explains_too_late_costs_its_reasons_only(decide: DecideOne):
    record = decide(after(answering(3.0, L1), endless), answering(2.0, G1), budget_s=1.0)
    assert (record["decision"], record["degraded"]) == ("block", "")
    assert without_neighbours(record["reasons"]) == [GRAPH_REASON]


def test_another_version_s_explanation_is_not_this_decision_s(decide: DecideOne):
    record = decide(after(answering(3.0, L1), answering(3.0, L2)), answering(2.0, G1))
    assert without_neighbours(record["reasons"]) == [GRAPH_REASON]
    record = decide(answering(3.0, L1), after(answering(2.0, G1), answering(2.0, G2)))
    assert record["reasons"] == [FEATURE_REASON]


def test_a_canary_s_other_version_is_asked_again_for_the_one_that_scored(decide: DecideOne):
    versions = iter([L2, L1])

    def either(request: dict[str, Any]) -> httpx.Response:
        return answering(3.0, next(versions))(request)  # type: ignore[return-value]

    record = decide(after(answering(3.0, L1), either), answering(2.0, G1))
    assert without_neighbours(record["reasons"]) == [FEATURE_REASON, GRAPH_REASON]


def test_a_score_that_did_not_count_gives_no_reasons(decide: DecideOne):
    asked: list[dict[str, Any]] = []
    record = decide(answering(1.0, L2, asked), answering(2.0, G1))
    assert without_neighbours(record["reasons"]) == [GRAPH_REASON]
    record = decide(answering(3.0, L1), answering(2.0, G2, asked))
    assert record["reasons"] == [FEATURE_REASON]
    assert len(asked) == 2


def test_a_decision_without_any_model_says_so(decide: DecideOne):
    (reason,) = decide(refusing, refusing)["reasons"]
    assert reason == {
        "text": "no model could score this event, so a person decides",
        "rule": None,
        "kind": "rule",
    }


@pytest.mark.parametrize(
    "output",
    [
        {"name": "contributions", "shape": [1], "data": [1.0]},
        {"name": "contributions", "shape": [1, 3], "data": [1.0, 1.0, 1.0]},
        {"name": "contributions", "shape": [1, 2], "data": [None, 1.0]},
        {"name": "contributions", "shape": [2, 1], "data": [1.0, 1.0]},
    ],
)
def test_contributions_of_another_form_cost_the_reasons_only(output: dict[str, Any], decide: DecideOne):
    def odd(_: dict[str, Any]) -> httpx.Response:
        return httpx.Response(200, json={"model_version": f"3-{L1}", "outputs": [output]})

    record = decide(after(answering(3.0, L1), odd), refusing)
    assert (record["decision"], record["reasons"], record["degraded"]) == ("block", [], "gnn")
