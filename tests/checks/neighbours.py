"""Honest look-alikes: who stands next to fraud in the space of the real features."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.stats import rankdata
from sklearn.neighbors import NearestNeighbors

from feature_repo.event_schemas import SCORED_EVENT_TYPES
from feature_repo.feature_names import CATEGORICAL_FEATURES, MODEL_FEATURES
from pipelines.report import Row

K = 10
LEAST_HONEST = 0.20
_NUMBERS = [name for name in MODEL_FEATURES if name not in CATEGORICAL_FEATURES]


def neighbour_rows(features: list[pd.DataFrame]) -> list[Row]:
    """For each typology: the share of fraud among the K nearest, and how often the very nearest is honest."""
    found = pd.concat([_of_type(f[f["event_type"] == t]) for f in features for t in SCORED_EVENT_TYPES])
    rows = []
    for typology, part in found.groupby("typology"):
        honest = float(part["honest"].mean())
        rows.append(Row(f"{typology}: fraud among the {K} nearest", float(part["purity"].mean()), "share"))
        bound = f"at least {LEAST_HONEST:.0%}"
        name = f"{typology}: nearest is honest (n={len(part)})"
        rows.append(Row(name, honest, "share", bound, honest >= LEAST_HONEST))
    return rows


def _of_type(part: pd.DataFrame) -> pd.DataFrame:
    """purity (of K neighbours) and honest (the nearest is) for the fraud of one event type."""
    fraud = part["y"].to_numpy() == 1
    if not fraud.any():
        return pd.DataFrame({"typology": [], "purity": [], "honest": []})
    X = standardised(part)
    _, index = NearestNeighbors(n_neighbors=K + 1, algorithm="brute").fit(X).kneighbors(X[fraud])
    own = np.flatnonzero(fraud)[:, None]
    # The event itself is the nearest, or one of its doubles is: drop it wherever it stands, else the last.
    keep = index != own
    keep[keep.all(axis=1), -1] = False
    near = fraud[index[keep].reshape(-1, K)]
    return pd.DataFrame(
        {"typology": part["typology"].to_numpy()[fraud], "purity": near.mean(axis=1), "honest": ~near[:, 0]}
    )


def standardised(part: pd.DataFrame) -> np.ndarray:
    """Features of one event type by their ranks, mean 0 and variance 1, shape [n, F]; a missing value is the mean.

    Ranks, since counts and amounts have tails that would make a distance out of one feature.
    """
    columns = []
    for name in _NUMBERS:
        values = part[name].to_numpy(float)
        known = np.isfinite(values)
        if known.any() and np.ptp(values[known]) > 0:
            rank = np.zeros(len(values))
            rank[known] = rankdata(values[known])
            rank[known] = (rank[known] - rank[known].mean()) / rank[known].std()
            columns.append(rank)
    return np.column_stack(columns)
