"""A fusion bundle and an event, for the tests of the transformer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from inference_services.bundle import Bundle, write_manifest

L1, L2, G1, G2 = "a" * 12, "b" * 12, "c" * 12, "d" * 12
NAME = "fraud-detector"
PAYMENT = {
    "event_id": "e1",
    "event_type": "payment_authorized",
    "event_timestamp": 1_770_000_000_000_000,
    "rider_id": "r1-00000000000000aa",
    "device_id": "v1-00000000000000bb",
    "payment_instrument_id": "p1-00000000000000cc",
    "city": "tehran",
    "trip_id": "t1",
    "amount": 250_000,
    "payment_method": "card",
    "attempt": 1,
}


def write_fusion(
    folder: Path,
    lightgbm: str = L1,
    offsets: dict[str, dict[str, float]] | None = None,
    gnn: str = G1,
    *,
    older: bool = False,
    weights: tuple[float, float, float] = (0.6, 0.5, 0.1),
    limits: tuple[float, float] = (0.3, 0.8),
) -> Bundle:
    """Writes a bundle; an older one knows no missing graph.

    `weights` are those of the pair and its intercept, `limits` the thresholds of review and block.
    """

    def pair(lgb: str | None, graph: str | None, mask: str, weights: list[float], b: float) -> dict[str, Any]:
        return {"lightgbm": lgb, "gnn": graph, "mask": mask, "weights": weights, "intercept": b}

    pairs = [
        pair(lightgbm, gnn, "full", [*weights[:2]], weights[2]),
        pair(lightgbm, None, "full", [1.0, 0.0], 0.0),
        pair(lightgbm, None, "no_store", [0.9, 0.0], -0.3),
        pair(None, gnn, "full", [0.0, 1.0], 0.0),
    ]
    if not older:
        pairs += [
            pair(lightgbm, gnn, "no_graph", [0.8, 0.3], -0.1),
            pair(lightgbm, None, "no_graph", [1.0, 0.0], 0.0),
            pair(None, gnn, "no_graph", [0.0, 1.0], 0.0),
        ]
    kinds = ("trip_requested", "trip_completed", "payment_authorized", "promo_redeemed", "refund_claimed")
    thresholds = {kind: {"review": limits[0], "block": limits[1]} for kind in (*kinds, "account_changed")}
    folder.mkdir(parents=True, exist_ok=True)
    content: dict[str, Any] = {
        "pairs": pairs,
        "thresholds": thresholds,
        "policy_sha256": "0" * 64,
        "lightgbm": lightgbm,
        "gnn": gnn,
    }
    if offsets is not None:
        content["alarm_offsets"] = offsets
    (folder / "fusion.json").write_text(json.dumps(content))
    return write_manifest(folder, "fraud-fusion", {})
