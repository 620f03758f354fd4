"""Rules files for tests."""

from __future__ import annotations

from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from feature_repo.event_batch import EventBatch
from feature_repo.event_schemas import SCORED_EVENT_TYPES
from feature_repo.feature_names import MODEL_FEATURES
from inference_services.transformer.rules.rule_set import RuleSet

RIDER, OTHER = "r1-00000000000000aa", "r1-00000000000000bb"
LISTS = {"sanctioned_riders": {"description": "Riders of a test.", "kind": "rider", "entries": [RIDER]}}
PAYMENT = {
    "event_id": "e1",
    "event_type": "payment_authorized",
    "event_timestamp": 1_770_000_000_000_000,
    "rider_id": RIDER,
    "device_id": "v1-00000000000000bb",
    "city": "tehran",
    "trip_id": "t1",
    "amount": 250_000,
    "payment_method": "card",
    "attempt": 1,
}


def rule(name: str = "dear", when: str = "amount > 100000.0", **fields: Any) -> dict[str, Any]:
    return {
        "name": name,
        "description": f"The rule {name}.",
        "owner": "payments risk",
        "reviewed_by": "fraud analytics",
        "reviewed_on": "2026-11-02",
        "event_types": ["payment_authorized"],
        "when": when,
        "action": "review",
        "dry_run": False,
        **fields,
    }


def content(*rules: dict[str, Any], lists: dict[str, Any] | None = None) -> bytes:
    return yaml.safe_dump({"lists": LISTS if lists is None else lists, "rules": list(rules)}).encode()


def rule_set(*rules: dict[str, Any]) -> RuleSet:
    return RuleSet.load(content(*rules), "rules.yaml")


def features(batch: EventBatch, **known: Any) -> dict[str, NDArray[Any]]:
    """MODEL_FEATURES of a batch: unknown but for the event's own and those given."""
    values: dict[str, NDArray[Any]] = {name: np.full(len(batch), np.nan) for name in MODEL_FEATURES}
    values.update(event_type=batch["event_type"], city=batch["city"])
    values["amount"] = np.where(batch.present["amount"], batch["amount"], np.nan)
    return {**values, **{name: np.full(len(batch), value) for name, value in known.items()}}


def every_type() -> EventBatch:
    """One bare event of each scored type."""
    envelope = {name: PAYMENT[name] for name in ("event_timestamp", "rider_id", "device_id", "city")}
    return EventBatch.from_rows([{**envelope, "event_id": kind, "event_type": kind} for kind in SCORED_EVENT_TYPES])
