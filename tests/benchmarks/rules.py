"""What the rules cost a decision, and what the same conditions cost in other libraries.

The peers get the event's values as the rules' language has them, and must answer alike; cel-python gets them converted.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import cel
import celpy
import numpy as np
import rule_engine
import yaml

from feature_repo.event_batch import EventBatch
from feature_repo.feature_names import MODEL_FEATURES
from inference_services.transformer.rules.language import Language
from inference_services.transformer.rules.rule_set import RuleSet
from pipelines.report import Row
from tests.benchmarks.rounds import compare
from tests.contract.fusion_bundle import PAYMENT

# Sixteen conditions such as analysts write; about half of them hold.
CONDITIONS = (
    "amount > 3000000.0",
    "attempt >= 12.0 && payment_method == 'card'",
    "payment_instrument_days_since_fraud < 7.0",
    "payment_instrument_riders_7d >= 4.0 && rider_tenure_days < 30.0",
    "rider_requests_1h > 4.0 || rider_cancels_1h > 3.0",
    "city == 'tehran' && hour_of_day < 5.0 && amount > 400000.0",
    "device_riders_7d >= 3.0 && device_changes_7d >= 2.0",
    "rider_refunds_30d > 0.3 * rider_trips_30d",
    "rider_confirmed_frauds + device_confirmed_frauds >= 2.0",
    "driver_days_since_fraud < 14.0 && pair_trips_7d >= 3.0",
    "amount > 2.0 * rider_tenure_days * 1000.0",
    "payment_method == 'wallet' || payment_method == 'cash'",
    "rider_promos_7d >= 3.0 && rider_trips_7d <= 1.0",
    "has_payment_instrument == 1.0 && attempt > 1.0",
    "device_id == 'v1-00000000000000bb' && amount > 1000.0",
    "pair_trips_24h >= 3.0 && rider_tenure_days >= 0.0",
)
CHUNK = 16
BOUND_US = 1000.0


def run() -> list[Row]:
    """Times the rules on one event and on a chunk, then the language alone against each peer, once they agree."""
    rules = _rules()
    (event, values), (chunk, many) = _events(1), _events(CHUNK)
    judged = compare(partial(rules.judge, event, values), partial(rules.judge, chunk, many), 100)
    alone_us, chunk_us = judged.ours_s * 1e6, judged.peer_s * 1e6 / CHUNK
    rows = [
        Row(f"one event, {len(CONDITIONS)} rules", alone_us, "us", f"below {BOUND_US:.0f}", alone_us < BOUND_US),
        Row(f"each of {CHUNK} events, {len(CONDITIONS)} rules", chunk_us, "us"),
    ]
    plain = {**_plain(values), **{k: PAYMENT[k] for k in ("device_id", "payment_method")}}
    ours = _language(plain)
    assert 0 < sum(ours()) < len(CONDITIONS)
    for name, peer, calls in _peers(plain):
        assert peer() == ours(), name
        found = compare(ours, peer, calls)
        rows += [
            Row(f"{len(CONDITIONS)} conditions, {name}", found.peer_s * 1e6, "us"),
            Row(f"{len(CONDITIONS)} conditions, the rules' language", found.ours_s * 1e6, "us"),
            Row(f"the rules' language against {name}", found.ratio, "times"),
        ]
    return rows


def _rules() -> RuleSet:
    common = {
        "description": "A rule of the benchmark.",
        "owner": "payments risk",
        "reviewed_by": "fraud analytics",
        "reviewed_on": "2026-11-20",
        "event_types": ["payment_authorized"],
        "action": "review",
        "dry_run": False,
    }
    rules = [{**common, "name": f"r{i}", "when": when} for i, when in enumerate(CONDITIONS)]
    return RuleSet.load(yaml.safe_dump({"lists": {}, "rules": rules}).encode(), "the benchmark's rules")


def _language(values: dict[str, Any]) -> Callable[[], list[bool]]:
    language = Language()
    conditions = [language.compile(condition, ["payment_authorized"]) for condition in CONDITIONS]

    def judge() -> list[bool]:
        given = language.values(values)
        return [condition.evaluate(given) is True for condition in conditions]

    return judge


def _events(n: int) -> tuple[EventBatch, dict[str, Any]]:
    batch = EventBatch.from_rows([{**PAYMENT, "event_id": f"e{i}"} for i in range(n)])
    rng = np.random.default_rng(0)
    values: dict[str, Any] = {name: rng.gamma(2.0, 2.0, n) for name in MODEL_FEATURES}
    values |= {"event_type": batch["event_type"], "city": batch["city"], "amount": batch["amount"].astype(float)}
    return batch, values


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    """The values that the conditions read, of the one event."""
    return {name: column.tolist()[0] for name, column in values.items() if any(name in c for c in CONDITIONS)}


def _peers(values: dict[str, Any]) -> list[tuple[str, Callable[[], list[bool]], int]]:
    """Name, a call that answers every condition, and how often to call it in a round."""
    rust = [cel.compile(condition) for condition in CONDITIONS]
    environment = celpy.Environment()
    python = [environment.program(environment.compile(condition)) for condition in CONDITIONS]
    typed = celpy.json_to_cel(values)
    own = [rule_engine.Rule(c.replace("&&", "and").replace("||", "or")) for c in CONDITIONS]

    def in_rust() -> list[bool]:
        context = cel.Context(variables=values)
        return [program.execute(context) for program in rust]

    return [
        ("common-expression-language", in_rust, 100),
        ("rule-engine", lambda: [rule.matches(values) for rule in own], 100),
        ("cel-python", lambda: [bool(program.evaluate(typed)) for program in python], 5),
    ]
