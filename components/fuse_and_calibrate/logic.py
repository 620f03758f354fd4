"""The combiner of two calibrated log-odds, one row for each pair of model versions that may answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize  # type: ignore[import-untyped]  # it ships none

from components.errors import TooFewLabels
from inference_services.calibration import FULL, NO_GRAPH, NO_STORE, sigmoid

Vector = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class FusionRow:
    """fraud log-odds = weights[0] * lightgbm log-odds + weights[1] * gnn log-odds + intercept.

    Attributes:
        lightgbm: content id of the LightGBM bundle that answered, None when none did.
        gnn: content id of the GNN bundle that answered, None when none did.
        mask: what was available: "full", "no_graph" (no embeddings), or "no_store" (then the GNN is not asked).
        weights: of the LightGBM and the GNN log-odds, none negative.
        intercept: log-odds.
    """

    lightgbm: str | None
    gnn: str | None
    mask: str
    weights: tuple[float, float]
    intercept: float

    def log_odds(self, lightgbm: Vector, gnn: Vector) -> Vector:
        """Combined log-odds, shape [n], of both models' calibrated log-odds, shape [n] each."""
        return self.weights[0] * lightgbm + self.weights[1] * gnn + self.intercept


def fit_pair(lightgbm: Vector, gnn: Vector, y: Vector) -> tuple[tuple[float, float], float]:
    """Maximum-likelihood logistic regression with weights of at least zero.

    A negative weight would let a model's suspicion lower the fused score: nonsense to a reviewer, and a sign of noise.

    Args:
        lightgbm: calibrated log-odds, shape [n].
        gnn: calibrated log-odds, shape [n].
        y: 1.0 for fraud, 0.0 for honest, shape [n].

    Returns:
        The two weights, and the intercept.

    Raises:
        TooFewLabels: y has one class only.
    """
    if len(np.unique(y)) < 2:
        raise TooFewLabels("split 'calibrate' needs fraud and honest events: wait for labels or widen the dataset")
    X = np.stack([lightgbm, gnn, np.ones(len(y))], axis=1)

    def loss(beta: Vector) -> tuple[float, Vector]:
        z = X @ beta
        return float(np.mean(np.logaddexp(0.0, z) - y * z)), X.T @ (sigmoid(z) - y) / len(y)

    bounds = [(0.0, None), (0.0, None), (None, None)]
    fit = minimize(loss, np.array([0.5, 0.5, 0.0]), jac=True, method="L-BFGS-B", bounds=bounds, tol=1e-12)
    return (float(fit.x[0]), float(fit.x[1])), float(fit.x[2])


def fusion_rows(
    lightgbm: Mapping[str, Vector], gnn: Mapping[str, Vector], no_graph: Mapping[str, Vector], y: Vector
) -> list[FusionRow]:
    """A row for every pair of versions, and for every version alone.

    A model alone keeps its own calibration, so its row changes nothing.

    Args:
        lightgbm: calibrated log-odds [n] of the calibration events by content id, the new version first.
        gnn: likewise.
        no_graph: likewise without their graph, of those graph models that can answer so.
        y: 1.0 or 0.0, shape [n].
    """
    rows = []
    masks = (FULL, NO_GRAPH, NO_STORE)
    for mask, odds in ((FULL, gnn), (NO_GRAPH, no_graph)):
        for of_lightgbm, l_odds in lightgbm.items():
            for of_gnn, g_odds in odds.items():
                weights, intercept = fit_pair(l_odds, g_odds, y)
                rows.append(FusionRow(of_lightgbm, of_gnn, mask, weights, intercept))
        rows += [FusionRow(None, sha12, mask, (0.0, 1.0), 0.0) for sha12 in odds]
    rows += [FusionRow(sha12, None, mask, (1.0, 0.0), 0.0) for sha12 in lightgbm for mask in masks]
    return rows


def find_row(rows: list[FusionRow], lightgbm: str | None, gnn: str | None, mask: str = FULL) -> FusionRow:
    """The row of a pair.

    Raises:
        KeyError: there is none.
    """
    for row in rows:
        if (row.lightgbm, row.gnn, row.mask) == (lightgbm, gnn, mask):
            return row
    raise KeyError(f"no fusion row for LightGBM {lightgbm}, GNN {gnn}, mask {mask}")
