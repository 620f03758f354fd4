"""Gives a canary all traffic, and moves the alias when no other is to come."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from components import rollout
from components.model_registry import ModelVersion
from components.promote_canary import aliases
from components.rollout import Leg


def promote(api: Any, legs: Sequence[Leg], tracking_uri: str) -> list[ModelVersion]:
    """Gives the canary all traffic; where that was the last leg, the alias champion moves.

    Returns:
        The new champions; nothing while another leg is to come.

    Raises:
        NotServing: no canary has a share.
        KServeRefused: the API refuses, or is away.
        RegistryError: the aliases cannot move; what serves is the challenger, and promoting again finishes it.
    """
    return rollout.promote(api, legs, lambda: aliases.promote(tracking_uri))
