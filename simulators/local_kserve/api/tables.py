"""InferenceServices as the table that `kubectl get` prints: the columns of KServe's definition. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

_COLUMNS = (
    ("Name", "string"),
    ("URL", "string"),
    ("Ready", "string"),
    ("Prev", "integer"),
    ("Latest", "integer"),
    ("PrevRolledoutRevision", "string"),
    ("LatestReadyRevision", "string"),
    ("Age", "string"),
)
_DEFINITIONS = [
    {"name": name, "type": kind, "format": "name" if name == "Name" else "", "description": "", "priority": 0}
    for name, kind in _COLUMNS
]
_MINUTE, _HOUR, _DAY = 60, 3600, 86400


def table(items: Sequence[dict[str, Any]], version: str, now: datetime | None = None) -> dict[str, Any]:
    """A `meta.k8s.io/v1` Table of InferenceServices.

    Args:
        items: the objects.
        version: resource version of the list.
        now: when it is asked for; None: now.
    """
    at = now or datetime.now(UTC)
    return {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": {"resourceVersion": version},
        "columnDefinitions": _DEFINITIONS,
        "rows": [{"cells": _cells(item, at), "object": _partial(item)} for item in items],
    }


def _cells(isvc: dict[str, Any], now: datetime) -> list[Any]:
    metadata, status = isvc["metadata"], isvc["status"]
    traffic = status["components"]["predictor"]["traffic"]
    latest: dict[str, Any] = next((target for target in traffic if target["latestRevision"]), {})
    previous: dict[str, Any] = next((target for target in traffic if target.get("tag") == "prev"), {})
    ready = next(c["status"] for c in status["conditions"] if c["type"] == "Ready")
    return [
        metadata["name"],
        status["url"],
        ready,
        previous.get("percent"),
        latest.get("percent"),
        previous.get("revisionName"),
        latest.get("revisionName"),
        age((now - datetime.fromisoformat(metadata["creationTimestamp"])).total_seconds()),
    ]


def age(seconds: float) -> str:
    """A duration as kubectl writes it: the coarser, the longer."""
    whole = max(int(seconds), 0)
    if whole < 2 * _MINUTE:
        return f"{whole}s"
    if whole < 10 * _MINUTE:
        return f"{whole // _MINUTE}m{whole % _MINUTE}s"
    if whole < 3 * _HOUR:
        return f"{whole // _MINUTE}m"
    if whole < 2 * _DAY:
        return f"{whole // _HOUR}h"
    return f"{whole // _DAY}d"


def _partial(isvc: dict[str, Any]) -> dict[str, Any]:
    return {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": isvc["metadata"]}
