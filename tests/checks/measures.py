"""Small statistics that the checks share, as pure functions of arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata
from sklearn.metrics import average_precision_score

Vector = NDArray[np.float64]
Codes = NDArray[np.int64]
Mask = NDArray[np.bool_]

BINS = 10
FOLDS = 4
# Fewer fraud events than this give an area whose standard error is above 0.05.
LEAST_FRAUD = 30


def auc(score: Vector, fraud: Mask) -> float:
    """Area under the ROC curve, ties counted half (Mann and Whitney, 1947)."""
    n, m = int(fraud.sum()), int((~fraud).sum())
    return float((rankdata(score)[fraud].sum() - n * (n + 1) / 2) / (n * m))


def bins(values: NDArray[Any]) -> Codes:
    """Codes of a field, shape [n]: deciles of a number, the levels of a word; 0 where absent."""
    if values.dtype == object:
        levels, code = np.unique(np.array([str(v) for v in values]), return_inverse=True)
        del levels
        return code.astype(np.int64)
    known = np.isfinite(values)
    if not known.any():
        return np.zeros(len(values), np.int64)
    edges = np.unique(np.quantile(values[known], np.linspace(0, 1, BINS + 1)[1:-1]))
    return np.where(known, 1 + np.searchsorted(edges, np.nan_to_num(values), "right"), 0).astype(np.int64)


def fold_of(group: Codes, rng: np.random.Generator) -> Codes:
    """A fold for each row so that no group (a ring, an honest rider) is in two, shape [n]."""
    return rng.integers(0, FOLDS, int(group.max()) + 1)[group]


def cross_fitted_score(a: Codes, b: Codes, fraud: Mask, fold: Codes) -> Vector:
    """Log likelihood ratio of each row's cell in the grid of two coded fields, from the other folds, shape [n].

    A cell is drawn towards what the two fields say separately (naive Bayes), with the weight of two fraud events,
    so that an empty cell is not evidence and noise earns nothing on rows that it was not fitted on.
    """
    wide = int(b.max()) + 1
    cell, size = a * wide + b, (int(a.max()) + 1) * wide
    score = np.zeros(len(a))
    for k in range(FOLDS):
        rows, other = fold == k, fold != k
        score[rows] = _log_ratio(cell[other], fraud[other], size, wide)[cell[rows]]
    return score


def _log_ratio(cell: Codes, fraud: Mask, size: int, wide: int) -> Vector:
    densities = []
    for rows in (fraud, ~fraud):
        seen = np.bincount(cell[rows], minlength=size).reshape(-1, wide) + 0.0
        total = max(seen.sum(), 1.0)
        across, down = (seen.sum(axis) + 1.0 for axis in (1, 0))
        expected = np.outer(across / across.sum(), down / down.sum())
        weight = 2.0 * total / max(float(fraud.sum()), 1.0)
        densities.append((seen + weight * expected) / (total + weight))
    return np.asarray(np.log(densities[0] / densities[1])).ravel()


def precision_within(y: Vector, score: Vector, event_type: NDArray[Any]) -> float:
    """Average precision within each event type, weighted by its fraud: no credit for telling the types apart."""
    total = weighted = 0.0
    for name in np.unique(event_type):
        rows = event_type == name
        fraud = y[rows].sum()
        if fraud > 0:
            weighted += fraud * average_precision_score(y[rows], score[rows])
            total += fraud
    return float(weighted / total) if total else float("nan")


def stability_index(before: Vector, after: Vector) -> float:
    """Population stability index over deciles of `before`: below 0.1 nothing moved, above 0.25 much did."""
    edges = np.unique(np.quantile(before, np.linspace(0, 1, BINS + 1)[1:-1]))
    shares = [
        (np.bincount(np.searchsorted(edges, v, "right"), minlength=len(edges) + 1) + 0.5) / (len(v) + 0.5 * BINS)
        for v in (before, after)
    ]
    return float(np.sum((shares[1] - shares[0]) * np.log(shares[1] / shares[0])))
