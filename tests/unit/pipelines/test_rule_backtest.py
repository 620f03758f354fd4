"""The figures of a backtest are those that can be counted by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from feature_repo.event_batch import EventBatch
from feature_repo.feature_names import MODEL_FEATURES
from inference_services.policy_settings import ThresholdSettings
from inference_services.transformer.rules.rule_set import RuleSet
from pipelines.errors import StepError
from pipelines.rule_backtest import ALL_RULES, ALL_TYPES, History, RuleResult, backtest, choose
from tests.unit.inference_services.rule_files import OTHER, PAYMENT, RIDER, features, rule, rule_set

POLICY = ThresholdSettings.read(Path(__file__).parents[3] / "manifests/base/policy/threshold_settings.yaml")
MISSED, REVIEW = POLICY.missed_fraud_cost, POLICY.review_cost
BLOCKED = POLICY.false_block_cost
UNKNOWN = np.nan


def history(*events: tuple[str, int, float], rider: str = OTHER) -> History:
    """Events of (type, amount, y)."""
    rows: list[dict[str, Any]] = [
        {**PAYMENT, "event_id": str(i), "event_type": kind, "amount": amount, "rider_id": rider}
        for i, (kind, amount, _) in enumerate(events)
    ]
    batch = EventBatch.from_rows(rows)
    frame = pd.DataFrame({name: values for name, values in features(batch).items() if name in MODEL_FEATURES})
    return History(batch.to_arrow(), frame.assign(y=[y for _, _, y in events]))


PAY, REFUND = "payment_authorized", "refund_claimed"
EVENTS = history(
    (PAY, 500, 1.0),
    (PAY, 500, 0.0),
    (PAY, 500, UNKNOWN),
    (PAY, 5, 1.0),
    (PAY, 5, 0.0),
    (PAY, 5, 0.0),
    (REFUND, 500, 1.0),
    (REFUND, 5, 0.0),
)


def run(rules: RuleSet, *names: str, events: History = EVENTS) -> dict[tuple[str, str], RuleResult]:
    return {(r.rule, r.event_type): r for r in backtest(rules, events, POLICY, choose(rules, names))}


def test_a_rule_is_counted_by_event_type_and_label():
    found = run(rule_set(rule("dear", "amount > 100.0", event_types=[PAY, REFUND], action="review")), "dear")
    assert list(found) == [("dear", ALL_TYPES), ("dear", PAY), ("dear", REFUND), (ALL_RULES, ALL_TYPES)]
    paid = found["dear", PAY]
    assert (paid.events, paid.matches, paid.fraud, paid.honest, paid.unlabelled) == (6, 3, 1, 1, 1)
    assert (paid.precision, paid.recall, paid.false_positive_rate) == (1 / 2, 1 / 2, 1 / 3)
    assert paid.saved == MISSED[PAY] - 2 * REVIEW
    assert paid.at_risk == MISSED[PAY]
    both = found["dear", ALL_TYPES]
    assert (both.events, both.matches, both.fraud, both.recall) == (8, 4, 2, 2 / 3)
    assert both.saved == MISSED[PAY] + MISSED[REFUND] - 3 * REVIEW


@pytest.mark.parametrize(
    ("action", "saved"), [("allow", 0.0), ("review", MISSED[PAY] - 2 * REVIEW), ("block", MISSED[PAY] - BLOCKED[PAY])]
)
def test_what_is_saved_follows_the_action(action: str, saved: float):
    found = run(rule_set(rule("dear", "amount > 100.0", action=action)))
    assert found["dear", ALL_TYPES].saved == saved
    assert found[ALL_RULES, ALL_TYPES].saved == saved
    assert found["dear", ALL_TYPES].at_risk == MISSED[PAY]


def test_a_dry_rule_is_measured_alone_and_left_out_of_the_live_ones():
    rules = rule_set(
        rule("first", "amount > 100.0", action="allow"),
        rule("second", "amount > 1.0", action="block"),
        rule("tried", "amount > 1.0", action="block", dry_run=True),
    )
    found = run(rules)
    assert found["tried", ALL_TYPES].saved == found["second", ALL_TYPES].saved == 2 * MISSED[PAY] - 3 * BLOCKED[PAY]
    together = found[ALL_RULES, ALL_TYPES]
    assert (together.matches, together.saved) == (6, MISSED[PAY] - 2 * BLOCKED[PAY])


def test_a_rule_without_a_match_has_no_precision():
    found = run(rule_set(rule("none", "amount > 9e9")))["none", ALL_TYPES]
    assert (found.matches, found.precision, found.recall, found.saved) == (0, None, 0.0, 0.0)
    nobody = run(rule_set(rule("none", "amount > 1.0")), events=history((PAY, 5, UNKNOWN)))["none", ALL_TYPES]
    assert (nobody.unlabelled, nobody.precision, nobody.recall, nobody.false_positive_rate) == (1, None, None, None)


def test_an_entity_on_a_list_is_found_in_history():
    rules = rule_set(rule("listed", "listed.sanctioned_riders"))
    assert run(rules, events=history((PAY, 5, 0.0), rider=RIDER))["listed", ALL_TYPES].honest == 1


def test_a_rule_that_fails_is_counted():
    rules = rule_set(rule("odd", "amount > 400.0 && amount < 600.0 && 10 / (int(amount) - 500) > 0"))
    assert run(rules)["odd", ALL_TYPES].errors == 3


def test_rules_are_chosen_by_name_in_the_file_s_order():
    rules = rule_set(rule("a"), rule("b"), rule("c"))
    assert [r.name for r in choose(rules, ["c", "a"])] == ["a", "c"]
    with pytest.raises(StepError, match="no rule 'd' in the file; there are a, b, c"):
        choose(rules, ["d"])


def test_a_long_history_is_judged_in_parts_and_told():
    many = history(*[(PAY, 500, 0.0)] * 5000)
    seen: list[tuple[int, int]] = []
    rules = rule_set(rule())
    found = backtest(rule_set(rule(when="amount > 100.0")), many, POLICY, rules.rules, lambda *at: seen.append(at))
    assert found[0].honest == 5000
    assert seen == [(4096, 5000), (5000, 5000)]
