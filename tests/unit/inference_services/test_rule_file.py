"""Which rules files are refused, and that the message names the rule, the field and the reason."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_repo.event_batch import EventBatch
from inference_services.errors import BadSettings
from inference_services.transformer.rules.language import MAX_LENGTH
from inference_services.transformer.rules.rule_file import MAX_RULES
from inference_services.transformer.rules.rule_set import RuleSet
from tests.unit.inference_services.rule_files import LISTS, PAYMENT, content, features, rule, rule_set

SHIPPED = Path(__file__).parents[3] / "manifests/base/policy/rules.yaml"


def test_repository_rules_are_valid():
    assert RuleSet.read(SHIPPED).rules


def test_a_missing_file_is_named(tmp_path: Path):
    with pytest.raises(BadSettings, match=r"cannot read the rules file .*rules\.yaml"):
        RuleSet.read(tmp_path / "rules.yaml")


EXPRESSIONS = {
    "unknown name": ("sped_kmh > 1.0", "undeclared reference to 'sped_kmh'; did you mean speed_kmh"),
    "unknown list": ("listed.nobody", "undeclared reference to 'listed.nobody'"),
    "wrong type": ('amount > "many"', "no matching overload"),
    "whole number": ("amount > 5", "numbers are written with a decimal point"),
    "not a condition": ("amount * 2.0", "must be true or false, and is double"),
    "type known late": ("dyn(amount > 2.0)", "must be true or false, and is dyn"),
    "not closed": ("(amount > 5.0", "Syntax error"),
    "empty": (" ", "Syntax error"),
    "field of other events": ('promo_code == "A"', "reads promo_code, which no payment_authorized has"),
    "always an error": ("amount > 5.0 || 1 / 0 == 1", "divide by zero"),
    "bad pattern": ('city.matches("(")', "invalid regular expression"),
    "number of what is unknown": ("int(amount) > 5", "out of int64 range"),
    "holds for the unknown": ("!(rider_tenure_days > 7.0)", "of which nothing is known"),
    "not equal to the unknown": ("rider_tenure_days != 7.0", "of which nothing is known"),
    "python attribute": ("city.__class__", "cannot be the operand of a select"),
    "python call": ("__import__('os')", "undeclared reference to '__import__'"),
    "loop": ("[1, 2].all(x, x > 0)", "undeclared reference"),
    "binding": ("cel.bind(x, [1], x == x)", "undeclared reference"),
}


@pytest.mark.parametrize("case", EXPRESSIONS)
def test_an_expression_that_cannot_be_used_is_refused_with_rule_and_reason(case: str):
    when, message = EXPRESSIONS[case]
    with pytest.raises(BadSettings) as refused:
        rule_set(rule("good"), rule("odd", when))
    assert str(refused.value).startswith("rules.yaml: rule odd: when: ")
    assert message in str(refused.value)


def test_every_bad_rule_is_named():
    with pytest.raises(BadSettings, match=r"rule a: when: .*; rule b: when: "):
        rule_set(rule("a", "x"), rule("b", "y"))


HOSTILE = {
    "deep parentheses": "(" * 480 + "true" + ")" * 480,
    "deep lists": "[" * 490 + "1" + "]" * 490 + " == []",
    "long": " || ".join(["amount > 1.0"] * 500),
    "huge": "a" * 100_000,
    "nested loops": "".join(f"[0,1,2,3,4,5,6,7,8,9].all(x{i}, " for i in range(30)) + "true" + ")" * 30,
    "doubling": ".map(x, [x, x])".join(["[1]"] + [""] * 60) + ".size() > 0",
    "large pattern": 'city.matches("((a{1000}){1000}){1000}")',
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_expression_is_refused(case: str):
    with pytest.raises(BadSettings, match=r"rule dear: when: "):
        rule_set(rule(when=HOSTILE[case]))


BOUNDED = {
    "exponential pattern": 'city.matches("(a+)+$") || city.matches("(.*)*x")',
    "as long as it may be": " || ".join(["amount > 1e9"] * (MAX_LENGTH // 16)),
    "negations": "!" * 900 + "(amount > 1e9)",
    "text that grows": "(" + " + ".join(["city"] * 30) + ').startsWith("b")',
}


@pytest.mark.parametrize("case", BOUNDED)
def test_an_expression_that_is_let_through_costs_little(case: str):
    rules = rule_set(rule(when=BOUNDED[case]))
    batch = EventBatch.from_rows([{**PAYMENT, "city": "a" * 60}])
    started = time.process_time()
    assert rules.judge(batch, features(batch)).verdicts[0].failed == ()
    # Not how fast it is, but that it is no blow-up: these would take years.
    assert time.process_time() - started < 5


FIELDS: dict[str, tuple[dict[str, Any], str]] = {
    "unknown field": ({"wen": "x"}, "rule dear: wen: Extra inputs"),
    "action": ({"action": "ban"}, "rule dear: action: Input should be 'allow', 'review' or 'block'"),
    "dry run is said": ({"dry_run": "no"}, "rule dear: dry_run: "),
    "own review": ({"reviewed_by": "payments risk"}, "rule dear: reviewed_by must be somebody else"),
    "no date": ({"reviewed_on": "soon"}, "rule dear: reviewed_on: "),
    "a thirteenth month": ({"reviewed_on": "2026-13-01"}, "rule dear: reviewed_on: Input should be a valid date"),
    "not a text": ({"name": "a\ud800"}, "rule 1: name: Input should be a valid string"),
    "unscored type": ({"event_types": ["trip_cancelled"]}, "rule dear: event_types: 'trip_cancelled' is not scored"),
    "no type": ({"event_types": []}, "rule dear: event_types: "),
    "type twice": ({"event_types": ["trip_requested"] * 2}, "rule dear: event_types: names an event type twice"),
    "name": ({"name": "Dear rule"}, "rule Dear rule: name: "),
    "two lines": ({"description": "one\ntwo"}, "rule dear: description: "),
}


@pytest.mark.parametrize("case", FIELDS)
def test_a_bad_field_is_refused_by_rule_and_name(case: str):
    change, message = FIELDS[case]
    with pytest.raises(BadSettings) as refused:
        rule_set({**rule(), **change})
    assert f"rules.yaml: {message}" in str(refused.value)


def test_a_missing_field_and_a_rule_without_a_name_are_told():
    nameless = {k: v for k, v in rule().items() if k not in {"name", "owner"}}
    with pytest.raises(BadSettings, match=r"rule 2: name: Field required; rule 2: owner: Field required"):
        rule_set(rule(), nameless)


@pytest.mark.parametrize("entry", ["09121234567", "d1-00000000000000aa", "r1-00AA", ""])
def test_an_entry_that_is_no_pseudonym_is_refused_without_being_repeated(entry: str):
    lists = {"sanctioned_riders": {**LISTS["sanctioned_riders"], "entries": [entry]}}
    with pytest.raises(BadSettings, match="lists: sanctioned_riders: entry 1 of 1") as refused:
        RuleSet.load(content(lists=lists), "rules.yaml")
    assert not entry or entry not in str(refused.value)


CONTENTS = {
    "two of a name": (content(rule(), rule()), "two rules are called dear"),
    "too many": (content(*(rule(f"r{i}") for i in range(MAX_RULES + 1))), "rules: Tuple should have at most 100"),
    "no rules": (b"lists: {}", "rules: Field required"),
    "no mapping": (b"- a", "Input should be"),
    "nothing": (b"", "Input should be"),
    "not YAML": (b"rules: [", "is not YAML"),
    "not text": (b"\xff\xfe\x00", "is not YAML"),
    "key twice": (b"lists: {}\nlists: {}\nrules: []", "the key 'lists' twice"),
    "object": (b"rules: !!python/object/apply:os.system [ls]", "is not YAML"),
    "deep": (b"[" * 100_000, "is not YAML"),
    "date that is none": (content(rule()).replace(b"'2026-11-02'", b"2026-13-45"), "rule dear: reviewed_on: "),
    "endless number": (b"a: " + b"1" * 5000, "is not YAML"),
    "itself": (b"lists: {}\nrules: &a [*a]", "rule 1: "),
    "large": (b"#" * (2**20 + 1), "1,048,576 are allowed"),
}


@pytest.mark.parametrize("case", CONTENTS)
def test_a_file_that_is_no_rules_file_is_refused(case: str):
    given, message = CONTENTS[case]
    with pytest.raises(BadSettings) as refused:
        RuleSet.load(given, "rules.yaml")
    assert str(refused.value).startswith("rules.yaml")
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def combined(parts: st.SearchStrategy[str], *signs: str) -> st.SearchStrategy[str]:
    return st.tuples(parts, st.sampled_from(signs), parts).map(lambda three: f"({' '.join(three)})")


NUMBERS = st.recursive(
    st.sampled_from(["amount", "rider_trips_1h", "0.0", "1.5"]), lambda n: combined(n, "+", "-", "*", "/"), max_leaves=4
)
CONDITIONS = st.recursive(
    combined(NUMBERS, "<", ">=", "==", "!="),
    lambda c: combined(c, "&&", "||") | c.map("!({})".format) | c.map("({0} ? city == 'x' : {0})".format),
    max_leaves=6,
)


@settings(deadline=None, max_examples=150)
@given(CONDITIONS | st.text(max_size=40))
def test_any_text_is_a_rule_that_can_be_judged_or_is_refused_in_one_line(when: str):
    try:
        rules = rule_set(rule(when=when))
    except BadSettings as refused:
        if "\n" in str(refused):
            raise
        return
    batch = EventBatch.from_rows([PAYMENT])
    for amount in (np.nan, 0.0, 1e300, -1e300, np.inf):
        assert rules.judge(batch, features(batch, amount=amount)).verdicts[0].failed == ()
