"""Trains the trees, calibrates them for each availability mask, and scores every event."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import lightgbm
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score

from components.calibration import fit_platt
from components.train_lightgbm.settings import LightGbmSettings
from feature_repo.event_schemas import SCORED_EVENT_TYPES
from feature_repo.feature_names import CATEGORICAL_FEATURES, MODEL_FEATURES, STORE_FEATURES
from inference_services.calibration import FULL, NO_STORE, Platt
from inference_services.lightgbm_predictor.scorer import encode_columns

Matrix = NDArray[np.float64]
Vector = NDArray[np.float64]

STORE_COLUMNS = np.array([MODEL_FEATURES.index(name) for name in STORE_FEATURES])


@dataclass(frozen=True)
class TrainedLightGbm:
    """Trees with their calibration.

    Attributes:
        booster: cut at the best validation score.
        levels: of each categorical feature; the code of a level is its position.
        calibrations: by availability mask.
        validation_average_precision: of the best number of trees.
        fraud: fraud events trained on.
        honest: honest events trained on.
    """

    booster: lightgbm.Booster
    levels: dict[str, tuple[str, ...]]
    calibrations: dict[str, Platt]
    validation_average_precision: float
    fraud: int
    honest: int


def category_levels(frame: pd.DataFrame) -> dict[str, tuple[str, ...]]:
    """The levels that get a code: every scored event type, and the cities seen in training."""
    return {"event_type": SCORED_EVENT_TYPES, "city": tuple(sorted(frame["city"].unique()))}


def encode(frame: pd.DataFrame, levels: dict[str, tuple[str, ...]]) -> Matrix:
    """The matrix [n, F] in the order of `MODEL_FEATURES`; an unknown level is NaN."""
    return encode_columns({name: frame[name].to_numpy() for name in MODEL_FEATURES}, len(frame), MODEL_FEATURES, levels)


def without_store(X: Matrix) -> Matrix:
    """A copy of [n, F] as it would be with the feature store down."""
    masked = X.copy()
    masked[:, STORE_COLUMNS] = np.nan
    return masked


def raw_scores(booster: lightgbm.Booster, X: Matrix) -> Vector:
    """Raw scores (log-odds before calibration), shape [n]."""
    return np.asarray(booster.predict(X, raw_score=True), np.float64)


def train(frame: pd.DataFrame, settings: LightGbmSettings) -> TrainedLightGbm:
    """Trains on the split "train", stops by "valid", calibrates on "calibrate".

    Args:
        frame: a training set; see `build_training_set`.
        settings: choices of the training.

    Raises:
        TooFewLabels: the split "calibrate" has one class only.
    """
    levels = category_levels(frame[frame["split"] == "train"])
    parts = {split: frame[(frame["split"] == split) & frame["y"].notna()] for split in ("train", "valid", "calibrate")}
    X = {split: encode(part, levels) for split, part in parts.items()}
    y = {split: part["y"].to_numpy(float) for split, part in parts.items()}
    booster = _fit_trees(X, y, settings)
    calibrations = {
        FULL: fit_platt(raw_scores(booster, X["calibrate"]), y["calibrate"]),
        NO_STORE: fit_platt(raw_scores(booster, without_store(X["calibrate"])), y["calibrate"]),
    }
    score = float(average_precision_score(y["valid"], raw_scores(booster, X["valid"])))
    fraud = int(y["train"].sum())
    return TrainedLightGbm(booster, levels, calibrations, score, fraud, len(y["train"]) - fraud)


def _fit_trees(X: dict[str, Matrix], y: dict[str, Vector], settings: LightGbmSettings) -> lightgbm.Booster:
    rng = np.random.default_rng(settings.seed)
    masked = np.flatnonzero(rng.random(len(y["train"])) < settings.masked_share)
    rows = np.concatenate([X["train"], without_store(X["train"][masked])])
    labels = np.concatenate([y["train"], y["train"][masked]])
    names: dict[str, Any] = {"feature_name": list(MODEL_FEATURES), "categorical_feature": list(CATEGORICAL_FEATURES)}
    train_set = lightgbm.Dataset(rows, labels, **names)
    valid_set = lightgbm.Dataset(X["valid"], y["valid"], reference=train_set, **names)
    options = {
        "objective": "binary",
        "metric": "average_precision",
        "learning_rate": settings.learning_rate,
        "num_leaves": settings.num_leaves,
        "min_data_in_leaf": settings.min_data_in_leaf,
        "feature_fraction": settings.feature_fraction,
        "lambda_l2": settings.lambda_l2,
        "seed": settings.seed,
        "num_threads": settings.num_threads,
        "deterministic": True,
        "force_row_wise": True,
        "verbose": -1,
    }
    stop = lightgbm.early_stopping(settings.patience, verbose=False)
    booster = lightgbm.train(options, train_set, settings.rounds, valid_sets=[valid_set], callbacks=[stop])
    # Parsing the text drops the trees after the best, so that what is calibrated is what is saved.
    return lightgbm.Booster(model_str=booster.model_to_string(num_iteration=booster.best_iteration))


def score(trained: TrainedLightGbm, frame: pd.DataFrame) -> pd.DataFrame:
    """Scores all rows: event_id, lgb_raw, lgb_log_odds, lgb_log_odds_no_store."""
    X = encode(frame, trained.levels)
    raw = raw_scores(trained.booster, X)
    masked = raw_scores(trained.booster, without_store(X))
    return pd.DataFrame(
        {
            "event_id": frame["event_id"].to_numpy(),
            "lgb_raw": raw,
            "lgb_log_odds": trained.calibrations[FULL].log_odds(raw),
            "lgb_log_odds_no_store": trained.calibrations[NO_STORE].log_odds(masked),
        }
    )
