"""Leaves no canary behind."""

from __future__ import annotations

from typing import Any

from components.errors import RegistryError
from components.kserve_api import Serving, serving
from components.rollout import legs, roll_back


def settle(api: Any, tracking_uri: str) -> list[Serving]:
    """Rolls back unless what was begun is promoted.

    Returns:
        What the services serve then; nothing where no canary was left.

    Raises:
        ComponentError: a predictor does not come back, or the API is away.
    """
    try:
        rollout = legs(tracking_uri)
    except RegistryError:
        return []  # the aliases have moved: there is no challenger any more
    # A share, or that of 0 with which an earlier attempt to go back stopped half-way.
    left = any(serving(api, leg.canary.service).percent is not None for leg in rollout)
    return roll_back(api, rollout) if left else []
