"""The bounds a trained model must keep."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from components.errors import GateFailed


class GateSettings(BaseModel):
    """The bounds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    least_lift: float = Field(10.0, ge=1, description="Average precision, as a multiple of the prevalence, at least.")
    champion_margin: float = Field(0.03, ge=0, description="Most average precision that may be lost to the champion.")
    most_calibration_error: float = Field(0.02, gt=0, description="Expected calibration error, at most.")


def broken_bounds(evaluation: Mapping[str, Any], settings: GateSettings) -> list[str]:
    """Every bound that an evaluation breaks, in words with both numbers; empty when it may pass.

    While LightGBM canaries, the champion's GNN answers beside it: that pair is held to the champion's measure too.
    """
    pairs = evaluation["pairs"]
    broken = []
    precision = pairs["challenger"]["average_precision"]
    floor = settings.least_lift * evaluation["prevalence"]
    # `not >=` rather than `<`, so that NaN breaks the bound.
    if not precision >= floor:
        broken.append(
            f"least_lift: average precision {precision:.4f} is below {settings.least_lift:g} times the prevalence "
            f"({floor:.4f})"
        )
    error = pairs["challenger"]["calibration_error"]
    if not (math.isfinite(error) and error <= settings.most_calibration_error):
        broken.append(
            f"most_calibration_error: calibration error {error:.4f} is not within {settings.most_calibration_error:g}"
        )
    if "champion" in pairs:
        least = pairs["champion"]["average_precision"] - settings.champion_margin
        for name in ("challenger", "lightgbm_canary", "gnn_canary"):
            found = pairs[name]["average_precision"]
            if not found >= least:
                broken.append(
                    f"champion_margin: average precision {found:.4f} of the pair {name!r} is below the champion's "
                    f"{pairs['champion']['average_precision']:.4f} by more than {settings.champion_margin:g}"
                )
    return broken


def check(evaluation: Mapping[str, Any], settings: GateSettings) -> None:
    """Lets an evaluation pass.

    Raises:
        GateFailed: with every broken bound.
    """
    broken = broken_bounds(evaluation, settings)
    if broken:
        raise GateFailed("the gate is closed: " + "; ".join(broken))
