"""Trains the trees, calibrates them for each availability mask, and scores every event."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import lightgbm
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score

from components.calibration import fit_platt
from components.labels import check_classes
from components.train_lightgbm.monotone import monotone_directions
from components.train_lightgbm.settings import LightGbmSettings
from feature_repo.event_schemas import SCORED_EVENT_TYPES
from feature_repo.feature_names import CATEGORICAL_FEATURES, MODEL_FEATURES, STORE_FEATURES
from inference_services.calibration import FULL, NO_STORE, Platt
from inference_services.lightgbm_predictor.scorer import encode_columns

_log = logging.getLogger(__name__)

Matrix = NDArray[np.float64]
Vector = NDArray[np.float64]

# In the order of time; the split "test" is for judging alone.
READ_SPLITS = ("train", "valid", "calibrate")
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
        unused: features that the trees were not given, and why: "empty" or "constant".
    """

    booster: lightgbm.Booster
    levels: dict[str, tuple[str, ...]]
    calibrations: dict[str, Platt]
    validation_average_precision: float
    fraud: int
    honest: int
    unused: dict[str, str]


@dataclass(frozen=True)
class TreeData:
    """What trees of any settings are grown from.

    Attributes:
        levels: of each categorical feature.
        X: matrix [n, F] of each split that training reads.
        y: 1.0 or 0.0, shape [n], of each.
        unused: features that are left out, and why.
        train_set: binned rows of "train", some of them repeated without the store.
        valid_set: binned rows of "valid".
    """

    levels: dict[str, tuple[str, ...]]
    X: dict[str, Matrix]
    y: dict[str, Vector]
    unused: dict[str, str]
    train_set: lightgbm.Dataset
    valid_set: lightgbm.Dataset


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


def unused_features(X: Matrix) -> dict[str, str]:
    """Which of the features say nothing in [n, F], and why: "empty" or "constant".

    A constant of the store would otherwise tell trees whether the store is down, and nothing else.
    """
    empty = np.asarray(np.isnan(X).all(axis=0))
    # An empty cell beside a value says something: it is a state of its own.
    constant = np.asarray(np.equal(X, X[:1]).all(axis=0))
    reasons = {name: "empty" for name, is_empty in zip(MODEL_FEATURES, empty, strict=True) if is_empty}
    return reasons | {name: "constant" for name, same in zip(MODEL_FEATURES, constant, strict=True) if same}


def prepare(frame: pd.DataFrame, settings: LightGbmSettings) -> TreeData:
    """Encodes the labelled rows and bins them once.

    Args:
        frame: a training set; see `build_training_set`.
        settings: the seed, the masked share and the threads are used.

    Raises:
        TooFewLabels: a split that training reads has no events, or one class only.
    """
    check_classes(frame, READ_SPLITS)
    levels = category_levels(frame[frame["split"] == "train"])
    parts = {split: frame[(frame["split"] == split) & frame["y"].notna()] for split in READ_SPLITS}
    X = {split: encode(part, levels) for split, part in parts.items()}
    y = {split: part["y"].to_numpy(float) for split, part in parts.items()}
    unused = unused_features(X["train"])
    if unused:
        listed = ", ".join(f"{name} ({why})" for name, why in unused.items())
        _log.warning("trained without %d of %d features: %s", len(unused), len(MODEL_FEATURES), listed)
    usable = X["train"].copy()
    usable[:, [MODEL_FEATURES.index(name) for name in unused]] = np.nan
    rng = np.random.default_rng(settings.seed)
    masked = np.flatnonzero(rng.random(len(usable)) < settings.masked_share)
    rows = np.concatenate([usable, without_store(usable[masked])])
    labels = np.concatenate([y["train"], y["train"][masked]])
    options: dict[str, Any] = {
        "feature_name": list(MODEL_FEATURES),
        "categorical_feature": list(CATEGORICAL_FEATURES),
        # Binned once for trees of any settings: what may be pre-filtered depends on them.
        "params": {**_fixed_options(settings), "feature_pre_filter": False},
    }
    train_set = lightgbm.Dataset(rows, labels, **options).construct()
    valid_set = lightgbm.Dataset(X["valid"], y["valid"], reference=train_set, **options).construct()
    return TreeData(levels, X, y, unused, train_set, valid_set)


def train(frame: pd.DataFrame, settings: LightGbmSettings) -> TrainedLightGbm:
    """Trains on the split "train", stops by "valid", calibrates on "calibrate".

    Args:
        frame: a training set; see `build_training_set`.
        settings: choices of the training; a search (`trials`) is a step before, see `search.py`.

    Raises:
        TooFewLabels: a split has no events, or one class only.
    """
    data = prepare(frame, settings)
    booster = fit_trees(data, settings)
    X, y = data.X, data.y
    calibrations = {
        FULL: fit_platt(raw_scores(booster, X["calibrate"]), y["calibrate"]),
        NO_STORE: fit_platt(raw_scores(booster, without_store(X["calibrate"])), y["calibrate"]),
    }
    fraud = int(y["train"].sum())
    precision = validation_average_precision(booster, data)
    return TrainedLightGbm(booster, data.levels, calibrations, precision, fraud, len(y["train"]) - fraud, data.unused)


def validation_average_precision(booster: lightgbm.Booster, data: TreeData) -> float:
    """Average precision of trees on the split "valid"."""
    return float(average_precision_score(data.y["valid"], raw_scores(booster, data.X["valid"])))


def fit_trees(
    data: TreeData, settings: LightGbmSettings, callbacks: Sequence[Callable[[Any], None]] = ()
) -> lightgbm.Booster:
    """Grows trees until the average precision on "valid" stops rising, and cuts them at its best.

    Args:
        data: of a seed, a masked share and threads equal to those of `settings`.
        settings: choices of the training.
        callbacks: LightGBM's, called after each tree.
    """
    options = tree_options(settings)
    stop = lightgbm.early_stopping(settings.patience, verbose=False)
    booster = lightgbm.train(
        options, data.train_set, settings.rounds, valid_sets=[data.valid_set], callbacks=[*callbacks, stop]
    )
    # Parsing the text drops the trees after the best, so that what is calibrated is what is saved.
    return lightgbm.Booster(model_str=booster.model_to_string(num_iteration=booster.best_iteration))


def tree_options(settings: LightGbmSettings, further: int = 0) -> dict[str, Any]:
    """LightGBM's parameters for trees on `MODEL_FEATURES` and so many further columns, which have no direction."""
    options = _fixed_options(settings) | {
        "objective": "binary",
        "metric": "average_precision",
        "learning_rate": settings.learning_rate,
        "num_leaves": settings.num_leaves,
        "min_data_in_leaf": settings.min_data_in_leaf,
        "feature_fraction": settings.feature_fraction,
        "lambda_l2": settings.lambda_l2,
    }
    if settings.monotone != "off":
        options["monotone_constraints"] = [*monotone_directions(MODEL_FEATURES), *[0] * further]
        options["monotone_constraints_method"] = settings.monotone
    return options


def _fixed_options(settings: LightGbmSettings) -> dict[str, Any]:
    """What binning and growing share."""
    return {
        "seed": settings.seed,
        "num_threads": settings.num_threads,
        "deterministic": True,
        "force_row_wise": True,
        "verbose": -1,
    }


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
