"""Rules beside the models, in a decision."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from inference_services.transformer.decision_record import DecisionRecord
from tests.contract.fusion_bundle import G1, L1
from tests.contract.played_parts import (
    FEATURE_REASON,
    GRAPH_REASON,
    DecideOne,
    FakeStore,
    answering,
    refusing,
    without_neighbours,
)
from tests.unit.inference_services.rule_files import rule, rule_set


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
