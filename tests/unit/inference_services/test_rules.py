"""What rules say of events: order, dry run, lists, expiry, what is unknown, and a rule that fails."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any

import numpy as np
import pytest

from feature_repo.event_batch import EventBatch
from inference_services.transformer.decision_record import RulesRecord
from inference_services.transformer.rules.outcome import NOTHING, RuleVerdict
from inference_services.transformer.rules.rule_set import RuleSet
from tests.unit.inference_services.rule_files import OTHER, PAYMENT, every_type, features, rule, rule_set


def verdict(rules: RuleSet, event: dict[str, Any] | None = None, **known: Any) -> RuleVerdict:
    batch = EventBatch.from_rows([{**PAYMENT, **(event or {})}])
    return rules.judge(batch, features(batch, **known)).verdicts[0]


def test_the_first_live_rule_that_matches_decides():
    rules = rule_set(
        rule("cheap", "amount < 10.0", action="block"),
        rule("tried", action="block", dry_run=True),
        rule("first", action="review"),
        rule("second", action="block"),
    )
    found = verdict(rules)
    assert found.decided_by == rules.rules[2]
    assert (found.matched, found.dry_run, found.failed) == (("first", "second"), ("tried",), ())


def test_a_dry_run_decides_nothing():
    found = verdict(rule_set(rule(dry_run=True, action="block")))
    assert (found.decided_by, found.dry_run) == (None, ("dear",))


def test_a_rule_applies_to_its_event_types_only():
    batch = every_type()
    rules = rule_set(rule(when='city == "tehran"', event_types=["refund_claimed", "trip_requested"]))
    outcome = rules.judge(batch, features(batch))
    matched = [kind for kind, v in zip(batch["event_type"], outcome.verdicts, strict=True) if v.matched]
    assert sorted(matched) == ["refund_claimed", "trip_requested"]
    assert outcome.verdicts.count(NOTHING) == len(batch) - 2


def test_a_list_holds_its_entities():
    rules = rule_set(rule(when="listed.sanctioned_riders"))
    assert verdict(rules).matched
    assert not verdict(rules, {"rider_id": OTHER}).matched


@pytest.mark.parametrize(("expires", "matches"), [("2026-02-02", False), ("2026-02-03", True), (None, True)])
def test_a_rule_ends_with_the_day_before_it_expires(expires: str | None, matches: bool):
    rules = rule_set(rule(expires=expires))
    last = datetime(2026, 2, 2, 23, 59, 59, tzinfo=UTC)
    found = verdict(rules, {"event_timestamp": int(last.timestamp() * 1_000_000)})
    assert bool(found.matched) == matches
    assert rules.rules[0].expires == (date.fromisoformat(expires) if expires else None)


@pytest.mark.parametrize(
    "when",
    [
        "rider_tenure_days < 7.0",
        "rider_tenure_days >= 7.0",
        "rider_tenure_days == 0.0",
        "rider_tenure_days * 2.0 + 1.0 > 0.0",
        'payment_method == "wallet"',
        "surge > 1.0 || surge <= 1.0",
    ],
)
def test_what_is_unknown_compares_as_false(when: str):
    types = ["payment_authorized"] if "surge" not in when else ["trip_requested"]
    batch = every_type()
    outcome = rule_set(rule(when=when, event_types=types)).judge(batch, features(batch))
    assert outcome.verdicts == (NOTHING,) * len(batch)


def test_a_rule_may_ask_whether_a_number_is_unknown():
    rules = rule_set(rule(when="math.isNaN(rider_tenure_days)"))
    assert verdict(rules).matched
    assert not verdict(rules, rider_tenure_days=3.0).matched


def test_integers_and_flags_are_numbers():
    rules = rule_set(rule(when="attempt == 1.0 && amount == 250000.0 && has_payment_instrument == 0.0"))
    assert verdict(rules, attempt=1.0, has_payment_instrument=0.0).matched


def test_a_whole_number_that_an_event_lacks_is_unknown():
    batch = EventBatch.from_rows([PAYMENT])
    lacking = replace(batch, present={**batch.present, "event_timestamp": np.array([False])})
    rules = rule_set(rule(when="event_timestamp >= 0.0"))
    assert [bool(rules.judge(b, features(b)).verdicts[0].matched) for b in (batch, lacking)] == [True, False]


def test_an_error_in_one_rule_leaves_the_others():
    rules = rule_set(rule("odd", "attempt > 0.0 && 10 / (int(attempt) - 7) > 0"), rule("after"))
    found = verdict(rules, attempt=7.0)
    assert (found.failed, found.matched) == (("odd",), ("after",))


def test_the_outcome_names_the_set_and_overrides_the_models():
    rules = rule_set(
        rule("trusted", "listed.sanctioned_riders", action="allow"), rule("dear", "amount > 200000.0", action="block")
    )
    events = [PAYMENT, {**PAYMENT, "rider_id": OTHER}, {**PAYMENT, "rider_id": OTHER, "amount": 5}]
    batch = EventBatch.from_rows(events)
    outcome = rules.judge(batch, features(batch))
    models = np.array(["block", "review", "review"], object)
    assert outcome.decide(models).tolist() == ["allow", "block", "review"]
    assert models.tolist() == ["block", "review", "review"]
    assert outcome.records()[0] == RulesRecord(rules.sha256, "trusted", "allow", ("trusted", "dear"), (), ())
    assert outcome.records()[2] == RulesRecord(rules.sha256, None, None, (), (), ())
    # The models explain what they flagged themselves, and nothing that is allowed.
    assert outcome.explainable(models, np.array([True] * 3)).tolist() == ["allow", "review", "review"]
    assert outcome.explainable(models, np.array([False] * 3)).tolist() == ["allow", "allow", "review"]
    with_reasons = outcome.with_reasons([[], ["models"], ["models"]])
    assert [[getattr(r, "rule", r) for r in of] for of in with_reasons] == [[], ["dear", "models"], ["models"]]


def test_a_batch_is_judged_as_its_events_alone():
    rules = rule_set(rule("a", "amount > 60.0"), rule("b", "rider_trips_1h > 2.0", dry_run=True))
    rng = np.random.default_rng(3)
    batch = EventBatch.from_rows([{**PAYMENT, "amount": int(a)} for a in rng.integers(1, 120, 200)])
    values = {**features(batch), "rider_trips_1h": rng.integers(0, 5, 200).astype(float)}
    whole = rules.judge(batch, values).verdicts
    for row in range(len(batch)):
        one = np.array([row])
        alone = rules.judge(batch.take(one), {name: column[one] for name, column in values.items()})
        assert alone.verdicts == (whole[row],)
