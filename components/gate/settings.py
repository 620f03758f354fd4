"""The bounds of the gate."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Division = Literal["city", "device_tier", "tenure"]
Bound = Literal[
    "least_lift",
    "champion_margin",
    "champion_doubt",
    "most_calibration_error",
    "least_calibration_slope",
    "most_calibration_slope",
    "most_top_error",
    "least_fpr_ratio",
    "most_lightgbm_ms",
    "most_gnn_ms",
]


class GateSettings(BaseModel):
    """The bounds; the defaults are what the models of a small company's first months can keep."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    least_lift: float = Field(10.0, ge=1, description="Average precision, as a multiple of the prevalence, at least.")
    champion_margin: float = Field(
        0.03, ge=0, description="Most average precision that may be lost to the champion on the test days."
    )
    champion_doubt: float = Field(
        0.10,
        ge=0,
        description="Most average precision that may be lost to the champion at the lower end of the paired interval.",
    )
    most_calibration_error: float = Field(0.02, gt=0, description="Expected calibration error, at most.")
    least_calibration_slope: float = Field(
        0.8, gt=0, description="Calibration slope; its interval must not lie wholly below."
    )
    most_calibration_slope: float = Field(
        1.25, gt=0, description="Calibration slope; its interval must not lie wholly above."
    )
    most_top_error: float = Field(
        0.2,
        gt=0,
        description="Relative error in the top 1 % of scores; its interval must not lie wholly above.",
    )
    least_fpr_ratio: float = Field(
        0.8,
        ge=0,
        le=1,
        description="False positive rate, lowest group over highest, at 5 %; its interval must not lie wholly below.",
    )
    # Lists, not tuples: a pipeline's parameters know no others.
    fairness_divisions: list[Division] = Field(
        ["device_tier", "tenure"],
        description="Divisions that are held to least_fpr_ratio; the others are reported only.",
    )
    most_lightgbm_ms: float = Field(10.0, gt=0, description="Median time of the trees for one event, milliseconds.")
    most_gnn_ms: float = Field(25.0, gt=0, description="Median time of the graph network for one event, milliseconds.")
    not_held: list[Bound] = Field([], description="Bounds that do not close the gate, by name.")
