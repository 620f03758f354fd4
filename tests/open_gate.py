"""A gate that lets every model pass: one of a few hundred events says nothing, and what follows it is tested."""

from __future__ import annotations

from typing import Any

OPEN_GATE: dict[str, Any] = {
    "least_lift": 1.0,
    "champion_margin": 1.0,
    "champion_doubt": 1.0,
    "most_calibration_error": 0.5,
    "least_calibration_slope": None,
    "most_calibration_slope": None,
    "most_top_error": None,
    "fairness_divisions": (),
    "most_lightgbm_ms": 1e3,
    "most_gnn_ms": 1e3,
}
