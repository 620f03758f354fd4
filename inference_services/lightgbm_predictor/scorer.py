"""Scores rows with a LightGBM bundle; the service and the evaluation both score through here."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
from numpy.typing import NDArray

from inference_services.bundle import Bundle, verify
from inference_services.calibration import FULL, NO_STORE, Platt, read_calibrations, sigmoid, sigmoid_of
from inference_services.errors import BundleError
from inference_services.lightgbm_predictor.feature_listing import read_listing
from inference_services.lightgbm_predictor.single_row import SingleRow
from inference_services.model_names import LIGHTGBM

Matrix = NDArray[np.float64]
Vector = NDArray[np.float64]


@dataclass(frozen=True)
class Scores:
    """Scores of n rows, each array of shape [n]."""

    raw_score: Vector
    log_odds: Vector
    probability: Vector


def encode_columns(
    columns: Mapping[str, Any], n: int, features: Sequence[str], categorical: Mapping[str, Sequence[str]]
) -> Matrix:
    """Builds the matrix that the trees read, in training as in serving.

    Args:
        columns: one column [n] per feature.
        n: number of rows.
        features: the F names in the order of the matrix.
        categorical: levels of each categorical feature; the code of a level is its position, of any other value NaN.
    """
    X = np.empty((n, len(features)), np.float64)
    for position, name in enumerate(features):
        levels = categorical.get(name)
        X[:, position] = columns[name] if levels is None else encode_levels(columns[name], level_codes(levels))
    return X


def level_codes(levels: Sequence[str]) -> Mapping[str, float]:
    """The code of each level."""
    return {level: float(code) for code, level in enumerate(levels)}


def encode_levels(values: Iterable[str], codes: Mapping[str, float]) -> list[float]:
    """The codes of values, NaN of one that is no level."""
    return [codes.get(value, np.nan) for value in values]


@dataclass(frozen=True)
class LightGbmScorer:
    """A loaded bundle.

    Attributes:
        bundle: where it came from.
        booster: the trees.
        features: feature names in the order of the matrix, F of them.
        categorical: levels of each categorical feature; the code of a level is its position.
        store_columns: positions of the features that come from the online store.
        calibrations: by availability mask.
    """

    bundle: Bundle
    booster: lightgbm.Booster
    features: tuple[str, ...]
    categorical: Mapping[str, tuple[str, ...]]
    store_columns: NDArray[np.int64]
    calibrations: Mapping[str, Platt]

    @classmethod
    def load(cls, folder: Path) -> LightGbmScorer:
        """Verifies the bundle's bytes and loads it.

        Raises:
            BundleError: the bundle is altered or incomplete, or its parts do not fit each other.
        """
        bundle = verify(folder, LIGHTGBM)
        listing = read_listing(bundle)
        try:
            booster = lightgbm.Booster(model_file=folder / "model.bst")
        except lightgbm.basic.LightGBMError as error:
            raise BundleError(f"model.bst of {folder} is not a LightGBM model: {error}") from None
        if tuple(booster.feature_name()) != listing.features:
            raise BundleError(
                f"model.bst of {folder} was trained on other features, or in another order, than features.json names: "
                "train again"
            )
        calibrations = read_calibrations(bundle.read_json("calibration.json"), (FULL, NO_STORE))
        store = np.array([listing.features.index(name) for name in listing.store], np.int64)
        return cls(bundle, booster, listing.features, listing.categorical, store, calibrations)

    def encode(self, columns: Mapping[str, Any], n: int) -> Matrix:
        """Builds the matrix [n, F] from one column [n] per feature; a level unseen in training is NaN."""
        return encode_columns(columns, n, self.features, self.categorical)

    def score(self, X: Matrix) -> Scores:
        """Scores a matrix [n, F]; a row whose store features are all NaN is calibrated for a store that is down."""
        if len(X) == 1:
            return self._score_one(X)
        raw = np.asarray(self.booster.predict(X, raw_score=True, num_threads=1), np.float64)
        no_store = self.store_is_missing(X)
        with_store, without = self.calibrations[FULL], self.calibrations[NO_STORE]
        log_odds = np.where(no_store, without.log_odds(raw), with_store.log_odds(raw))
        return Scores(raw, log_odds, sigmoid(log_odds))

    def _score_one(self, X: Matrix) -> Scores:
        """As above, to the last bit, in numbers instead of arrays of one."""
        raw = self._single_row(X[0])
        log_odds = self.calibrations[NO_STORE if self._lacks_store(X) else FULL].log_odds_of(raw)
        return Scores(*np.array([[raw], [log_odds], [sigmoid_of(log_odds)]]))

    def _lacks_store(self, X: Matrix) -> bool:
        """`store_is_missing` of one row; most show by their first value that the store was there."""
        first = self._first_store_column
        return first is not None and math.isnan(X[0, first]) and bool(self.store_is_missing(X)[0])

    @cached_property
    def _first_store_column(self) -> int | None:
        return int(self.store_columns[0]) if len(self.store_columns) else None

    @cached_property
    def _single_row(self) -> SingleRow:
        return SingleRow(self.booster)

    def store_is_missing(self, X: Matrix) -> NDArray[np.bool_]:
        """Which rows of [n, F] were made while the store was down, shape [n]."""
        if not len(self.store_columns):
            return np.zeros(len(X), np.bool_)
        return np.asarray(np.isnan(X[:, self.store_columns]).all(axis=1), np.bool_)

    def contributions(self, X: Matrix) -> Matrix:
        """What each feature adds to the raw score (TreeSHAP), shape [n, F + 1]; the last column is the bias."""
        return np.asarray(self.booster.predict(X, pred_contrib=True, num_threads=1), np.float64)
