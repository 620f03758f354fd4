"""Fits what `inference_services.calibration` applies."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from components.errors import TooFewLabels
from inference_services.calibration import Platt


def fit_platt(raw: NDArray[np.float64], y: NDArray[np.float64]) -> Platt:
    """Fits log-odds = slope * raw + intercept (Platt 1999).

    Args:
        raw: raw scores of the split "calibrate", shape [n].
        y: 1.0 for fraud, 0.0 for honest, shape [n].

    Raises:
        TooFewLabels: y has one class only.
    """
    if len(np.unique(y)) < 2:
        raise TooFewLabels("split 'calibrate' needs fraud and honest events: wait for labels or widen the dataset")
    # No penalty: two parameters on thousands of events need none, and it would bias the intercept.
    fit = LogisticRegression(C=np.inf, solver="newton-cholesky", tol=1e-10).fit(raw[:, None], y)
    return Platt(float(fit.coef_[0, 0]), float(fit.intercept_[0]))
