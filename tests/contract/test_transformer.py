"""The transformer: degradation with a fake store and fake predictors at the transport seam."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import orjson
import pytest

from feature_repo.errors import StoreUnavailable
from feature_repo.event_batch import EventBatch
from feature_repo.feature_names import MODEL_FEATURES, STORE_FEATURES
from feature_repo.graph_features import INTERACTION
from feature_repo.online_reader import StoreRead
from feature_repo.request_features import CityNorms
from feature_repo.settings import EMBEDDING_DIM
from inference_services.graph_parts import ENDPOINT_INFLUENCE, NEIGHBOUR_INFLUENCE
from inference_services.transformer.decider import Decider
from inference_services.transformer.decision_record import DecisionRecord
from inference_services.transformer.feature_tensors import FEATURE_PARAMETERS
from inference_services.transformer.fusion import Fusion
from inference_services.transformer.predictors import V2Client
from inference_services.transformer.rules.rule_set import RuleSet
from tests.contract.fusion_bundle import G1, G2, L1, L2, NAME, PAYMENT, write_fusion
from tests.contract.predictor_fake import Handler, PlayedServer
from tests.unit.inference_services.rule_files import rule, rule_set

SEEN = 1_770_000_000_000_017


class FakeStore:
    def __init__(
        self, available: bool = True, delay_s: float = 0.0, *, embeddings: bool = True, embeddings_delay_s: float = 0.0
    ) -> None:
        self.available = available
        self.delay_s = delay_s
        self.has_embeddings = available and embeddings
        self.embeddings_delay_s = embeddings_delay_s

    async def read(self, batch: EventBatch) -> StoreRead:
        await asyncio.sleep(self.delay_s)
        n = len(batch)
        if not self.available:
            return StoreRead.nothing(n)
        interactions = np.zeros((n, 4, 8), INTERACTION)
        counts = np.zeros((n, 4), np.int64)
        counts[:, 0] = 2
        interactions["id"][:, 0, :2] = [0xBB, 0xDD]
        interactions["kind"][:, 0, :2] = [2, 1]
        interactions["key_id"][:, 0, :2] = 1
        interactions["ts"][:, 0, :2] = (batch["event_timestamp"] - 600_000_000)[:, None]
        features = {name: np.ones(n) for name in STORE_FEATURES}
        return StoreRead(True, features, CityNorms.unknown(n), interactions, counts, np.full(n, SEEN))

    async def embeddings(self, version: str, kinds: Any, ids: Any, key_ids: Any, dim: int) -> Any:
        await asyncio.sleep(self.embeddings_delay_s)
        if not self.has_embeddings:
            raise StoreUnavailable("down")
        assert version == G1
        assert len(kinds) == len(ids) == len(key_ids)
        return np.full((len(kinds), dim), 0.5, np.float32), np.ones(len(kinds), np.float32)

    async def close(self) -> None:
        pass


TYPICAL = {"payment_authorized": {"amount": [20_000, 60_000, 200_000]}}
EXPLAIN_LIGHTGBM = [{"name": "contributions"}]
EXPLAIN_GNN = [{"name": NEIGHBOUR_INFLUENCE}, {"name": ENDPOINT_INFLUENCE}]


def answering(log_odds: float, version: str, seen: list[dict[str, Any]] | None = None) -> Handler:
    def handle(request: dict[str, Any]) -> httpx.Response:
        if seen is not None:
            seen.append(request)
        shapes = {t["name"]: t["shape"] for t in request["inputs"]}
        n = shapes["event_features" if "event_features" in shapes else "amount"][0]
        values = {"raw_score": log_odds, "log_odds": log_odds, "probability": float(1 / (1 + np.exp(-log_odds)))}
        outputs = [{"name": k, "datatype": "FP64", "shape": [n], "data": [v] * n} for k, v in values.items()]
        parameters = {}
        if request.get("outputs") == EXPLAIN_LIGHTGBM:
            row = [0.0] * (len(MODEL_FEATURES) + 1)
            row[MODEL_FEATURES.index("amount")] = 2.0
            outputs = [{"name": "contributions", "datatype": "FP64", "shape": [n, len(row)], "data": row * n}]
            parameters = {"features": ",".join(MODEL_FEATURES), "typical_values": orjson.dumps(TYPICAL).decode()}
        elif request.get("outputs") == EXPLAIN_GNN:
            m, e = shapes["edge_index"][1], shapes["endpoint_kind"][0]
            falls = {NEIGHBOUR_INFLUENCE: [0.1, 0.4] * (m // 2), ENDPOINT_INFLUENCE: [0.6, *[0.0] * 2] * (e // 3)}
            outputs = [{"name": k, "datatype": "FP64", "shape": [len(v)], "data": v} for k, v in falls.items()]
        body = {"model_version": f"3-{version}", "parameters": parameters}
        return httpx.Response(200, content=orjson.dumps({**body, "outputs": outputs}))

    return handle


def refusing(_: dict[str, Any]) -> httpx.Response:
    raise ConnectionRefusedError("connection refused")


def broken(_: dict[str, Any]) -> httpx.Response:
    return httpx.Response(500, text="boom")


def nonsense(_: dict[str, Any]) -> httpx.Response:
    return httpx.Response(200, json={"outputs": [{"name": "log_odds", "shape": [1], "data": ["x"]}]})


def _misshapen(shape: list[int]) -> Handler:
    def handle(_: dict[str, Any]) -> httpx.Response:
        outputs = [{"name": name, "shape": shape, "data": [0.5]} for name in ("log_odds", "probability")]
        return httpx.Response(200, json={"model_version": f"3-{L1}", "outputs": outputs})

    return handle


MISSHAPEN = [_misshapen([]), _misshapen([1, 1])]


def endless(_: dict[str, Any]) -> None:
    """Stands for a model that never answers."""


DecideOne = Callable[..., Any]


@pytest.fixture
def decide(tmp_path: Path) -> DecideOne:
    """Decides one payment, or the events given, and returns the record that goes to the decision stream, or all."""
    write_fusion(tmp_path / "fusion")
    fusion = Fusion.load(tmp_path / "fusion")

    def run(
        lightgbm: Handler,
        gnn: Handler,
        *,
        store: FakeStore | None = None,
        budget_s: float = 5.0,
        events: list[dict[str, Any]] | None = None,
        offsets: dict[str, dict[str, float]] | None = None,
        older: bool = False,
        rules: RuleSet | None = None,
    ) -> Any:
        other = offsets is not None or older
        equalised = loaded(tmp_path / "other", offsets, older=older) if other else fusion

        async def call() -> Any:
            trees = V2Client(PlayedServer(lightgbm), NAME, parameters=FEATURE_PARAMETERS)
            graphs = V2Client(PlayedServer(gnn), "fraud-gnn")
            decider = Decider(store or FakeStore(), trees, graphs, equalised, budget_s=budget_s, rules=rules)
            decided = await decider.decide(EventBatch.from_rows(events or [PAYMENT]))
            records = [orjson.loads(record) for record in decided.records.encode()]
            for name, values in decided.outputs.items():
                assert values.shape == (len(records),)
                told = map(orjson.loads, values) if name == "reasons" else values
                assert [record[name] for record in records] == list(told)
            return records if events else records[0]

        return asyncio.run(call())

    return run


def loaded(folder: Path, offsets: dict[str, dict[str, float]] | None, *, older: bool = False) -> Fusion:
    write_fusion(folder, offsets=offsets, older=older)
    return Fusion.load(folder)


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


FEATURE_REASON = {
    "text": "amount of 250,000 toman; payments like this have 60,000 toman",
    "kind": "feature",
    "feature": "amount",
    "value": 250_000.0,
    "typical": {"low": 20_000.0, "median": 60_000.0, "high": 200_000.0},
    "contribution": 2.0,
}
DRIVER = "d1-00000000000000dd"
GRAPH_REASON = {
    "text": "this rider's last 2 events were with 1 driver and 1 device (d1-0000…), all of them within one hour; "
    "most telling: a trip request with driver d1-0000…, 10 minutes earlier",
    "kind": "graph",
    "entity": PAYMENT["rider_id"],
    "neighbour": DRIVER,
    "contribution": 0.6,
}


def without_neighbours(reasons: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in reason.items() if name != "neighbours"} for reason in reasons]


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


def rule_reason(name: str) -> dict[str, Any]:
    return {"text": f"The rule {name}.", "rule": name, "kind": "rule"}


def test_a_rule_overrides_the_models_and_gives_the_first_reason(decide: DecideOne):
    models = answering(1.0, L1), answering(-2.0, G1)
    assert decide(*models)["decision"] == "review"
    rules = rule_set(rule("tried", action="allow", dry_run=True), rule(action="block"))
    record = decide(*models, rules=rules)
    assert record["decision"] == "block"
    assert without_neighbours(record["reasons"]) == [rule_reason("dear"), FEATURE_REASON, GRAPH_REASON]
    said = {"decided_by": "dear", "action": "block", "matched": ["dear"], "dry_run": ["tried"], "failed": []}
    assert record["rules"] == {"sha256": rules.sha256, **said}
    read = DecisionRecord.from_json(orjson.dumps(record)).rules
    assert read is not None
    assert (read.decided_by, read.action, read.dry_run) == ("dear", "block", ("tried",))


def test_an_event_that_only_a_rule_flags_costs_no_second_call(decide: DecideOne):
    asked: list[dict[str, Any]] = []
    record = decide(answering(-3.0, L1, asked), answering(-2.0, G1, asked), rules=rule_set(rule()))
    assert (record["decision"], record["reasons"], len(asked)) == ("review", [rule_reason("dear")], 2)


def test_an_allowing_rule_beats_the_models_and_needs_no_reason(decide: DecideOne):
    asked: list[dict[str, Any]] = []
    models = answering(3.0, L1, asked), answering(2.0, G1, asked)
    record = decide(*models, rules=rule_set(rule(action="allow")))
    assert (record["decision"], record["reasons"], len(asked)) == ("allow", [], 2)
    assert record["fraud_probability"] > 0.8


@pytest.mark.parametrize("action", ["allow", "review", "block"])
def test_with_both_models_gone_the_rules_decide(action: str, decide: DecideOne):
    gone = {"store": FakeStore(available=False), "rules": rule_set(rule(action=action))}
    record = decide(refusing, refusing, **gone)
    assert (record["decision"], record["degraded"]) == (action, "store,gnn,lightgbm")
    assert record["reasons"] == ([] if action == "allow" else [rule_reason("dear")])


def test_with_both_models_gone_what_no_rule_matches_is_reviewed(decide: DecideOne):
    record = decide(refusing, refusing, rules=rule_set(rule(when="amount > 9e9", action="block")))
    assert (record["decision"], record["rules"]["decided_by"]) == ("review", None)
    assert [reason["text"] for reason in record["reasons"]] == ["no model could score this event, so a person decides"]
