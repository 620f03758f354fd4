"""Gives a model's challenger a share, when it is that model's turn."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from components import canary
from components.errors import NotServing
from components.rollout import READY_S, Leg, next_leg


def raise_leg(api: Any, rollout: Sequence[Leg], model: str, percent: int, ready_s: float = READY_S) -> datetime:
    """Raises the share of a model's challenger; safe to repeat.

    Returns:
        Since when it has its share.

    Raises:
        NotServing: another model's turn it is, or the challenger did not come up.
        KServeRefused: the API refuses, or is away.
    """
    leg = next_leg(api, rollout)
    if leg is None or leg.model != model:
        turn = "every challenger serves alone" if leg is None else f"the one under way, or next, is {leg.model}"
        raise NotServing(f"no canary of {model}: {turn}")
    canary.raise_to(api, leg.canary, percent, ready_s)
    return datetime.now(UTC)
