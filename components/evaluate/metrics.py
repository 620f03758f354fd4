"""How well a score ranks fraud at native prevalence: precision, recall, and what the reviewers would see."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score

Vector = NDArray[np.float64]
Names = NDArray[np.object_]


def average_precision(y: Vector, score: Vector) -> float:
    """Area under the precision-recall curve as a step function; NaN without fraud or with a score that is NaN."""
    if not (y == 1).any() or np.isnan(score).any():
        return float("nan")
    return float(average_precision_score(y, score))


def recall_at_fpr(y: Vector, score: Vector, fpr: float) -> float:
    """Share of the fraud above the threshold that at most `fpr` of the honest events reach; NaN without fraud."""
    fraud = score[y == 1]
    return float((fraud >= threshold_at_fpr(y, score, fpr)).mean()) if len(fraud) else float("nan")


def threshold_at_fpr(y: Vector, score: Vector, fpr: float) -> float:
    """The lowest score that at most `fpr` of the honest events reach."""
    honest = score[y == 0]
    allowed = int(fpr * len(honest))
    if allowed >= len(honest):
        return -np.inf
    # Strictly above the first honest score that may not pass; ties are never split.
    place = len(honest) - 1 - allowed
    return float(np.nextafter(np.partition(honest, place)[place], np.inf))


def precision_in_top(y: Vector, score: Vector, day: NDArray[Any], k: int) -> float:
    """Mean over days of the fraud share among a day's k highest scores (all of them on a day with fewer)."""
    _, code, counts = np.unique(day, return_inverse=True, return_counts=True)
    top = rank_within(code, score) < k
    caught = np.bincount(code[top], weights=y[top], minlength=len(counts))
    return float(np.mean(caught / np.minimum(counts, k)))


def rank_within(code: NDArray[np.int64], score: Vector) -> NDArray[np.int64]:
    """The place of each event among those of its group by falling score, from 0; ties in the order given; [n].

    Args:
        code: group of each event, 0 to g - 1, shape [n].
        score: shape [n].
    """
    order = np.lexsort((-score, code))
    counts = np.bincount(code)
    start = np.repeat(np.cumsum(counts) - counts, counts)
    rank = np.empty(len(code), np.int64)
    rank[order] = np.arange(len(code)) - start
    return rank


def recall_by_typology(y: Vector, score: Vector, typology: Names, fpr: float) -> dict[str, float]:
    """Recall of each typology's fraud at the threshold of `recall_at_fpr`; fraud of no known typology is left out."""
    passed = score >= threshold_at_fpr(y, score, fpr)
    known = np.array([isinstance(name, str) for name in typology]) & (y == 1)
    names, code = np.unique(typology[known].astype(str), return_inverse=True)
    share = np.bincount(code, passed[known], len(names)) / np.bincount(code, minlength=len(names))
    return {str(name): float(value) for name, value in zip(names, share, strict=True)}


def typology_rows(y: Vector, typology: Names, chosen: Collection[str]) -> NDArray[np.bool_]:
    """The events that a typology's average precision is taken over, [n]: its fraud, and the honest ones."""
    return np.asarray((y == 0) | np.isin(typology.astype(str), list(chosen)), np.bool_)


def typology_average_precision(y: Vector, score: Vector, typology: Names, chosen: Collection[str]) -> float:
    """Average precision of the chosen typologies' fraud against honest events; NaN where there is none.

    Other fraud is left out: to find it is no mistake. The prevalence, and so the value, differs between typologies;
    compare models on one typology, not typologies with each other.
    """
    rows = typology_rows(y, typology, chosen)
    return average_precision(y[rows], score[rows])
