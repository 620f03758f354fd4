"""Trees with further columns beside the features: the baseline that knows the neighbours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import lightgbm
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from components.labels import check_classes
from components.train_lightgbm.logic import category_levels, encode, raw_scores, tree_options, without_store
from components.train_lightgbm.settings import LightGbmSettings
from feature_repo.feature_names import CATEGORICAL_FEATURES, MODEL_FEATURES

Matrix = NDArray[Any]
Vector = NDArray[np.float64]


@dataclass(frozen=True)
class WideTrees:
    """Trees on `MODEL_FEATURES` and further columns.

    Attributes:
        booster: cut at the best validation score.
        levels: of each categorical feature.
    """

    booster: lightgbm.Booster
    levels: dict[str, tuple[str, ...]]

    def raw(self, frame: pd.DataFrame, more: Matrix) -> Vector:
        """Raw scores [n] of events with their further columns [n, k]."""
        return raw_scores(self.booster, np.hstack([encode(frame, self.levels), more]))


def train_wide(frame: pd.DataFrame, more: Matrix, settings: LightGbmSettings) -> WideTrees:
    """Trains as `components.train_lightgbm` does: the same budget, directions, masked rows and stopping.

    Args:
        frame: labelled events with the splits "train" and "valid".
        more: further columns, [n, k]; gone when the store is down.
        settings: choices of the training.

    Raises:
        TooFewLabels: a split has no events, or one class only.
    """
    check_classes(frame, ("train", "valid"))
    train, valid = ((frame["split"] == name).to_numpy() for name in ("train", "valid"))
    levels = category_levels(frame[train])
    X, y = encode(frame, levels), frame["y"].to_numpy(float)
    masked = np.flatnonzero(train)[np.random.default_rng(settings.seed).random(train.sum()) < settings.masked_share]
    nothing = np.full((len(masked), more.shape[1]), np.nan, more.dtype)
    rows = np.vstack([np.hstack([X[train], more[train]]), np.hstack([without_store(X[masked]), nothing])])
    data: dict[str, Any] = {
        "feature_name": [*MODEL_FEATURES, *(f"more_{k}" for k in range(more.shape[1]))],
        "categorical_feature": list(CATEGORICAL_FEATURES),
    }
    options = tree_options(settings, more.shape[1])
    train_set = lightgbm.Dataset(rows, np.concatenate([y[train], y[masked]]), **data)
    valid_set = lightgbm.Dataset(np.hstack([X[valid], more[valid]]), y[valid], reference=train_set, **data)
    stop = lightgbm.early_stopping(settings.patience, verbose=False)
    booster = lightgbm.train(options, train_set, settings.rounds, valid_sets=[valid_set], callbacks=[stop])
    return WideTrees(lightgbm.Booster(model_str=booster.model_to_string(num_iteration=booster.best_iteration)), levels)
