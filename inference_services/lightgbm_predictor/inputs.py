"""The matrix that the trees read, from any of the forms of a V2 request (see `model`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inference_services.errors import InvalidRequest
from inference_services.lightgbm_predictor.scorer import Matrix, encode_columns, encode_levels, level_codes
from inference_services.v2 import Datatype, Tensors, check_batch

MATRIX = "input-0"
FEATURES, COLUMNS = "features", "columns"
# Callers send one list of columns for each version of their code.
_LISTS = 16


class MatrixInputs:
    """Reads what a bundle's trees need.

    Args:
        features: names in the order of the matrix, F of them.
        categorical: levels of each categorical feature.
    """

    def __init__(self, features: Sequence[str], categorical: Mapping[str, Sequence[str]]) -> None:
        self._features = tuple(features)
        self._categorical = categorical
        self._codes = {name: level_codes(levels) for name, levels in categorical.items()}
        self._text = [(i, name) for i, name in enumerate(self._features) if name in categorical]
        self._numbers = [i for i, name in enumerate(self._features) if name not in categorical]
        self._places = lru_cache(_LISTS)(self._find)

    def datatype(self, name: str) -> Datatype:
        """The datatype of a feature that travels as a tensor of its own."""
        return "BYTES" if name in self._categorical else "FP64"

    def matrix(self, tensors: Tensors) -> Matrix:
        """The rows of a request, [n, F].

        Raises:
            InvalidRequest: a tensor or a column is missing, or does not fit.
        """
        if FEATURES in tensors:
            return self._by_columns(tensors)
        if MATRIX in tensors:
            X = tensors.array(MATRIX, ("FP64", "FP32"), (None, len(self._features)))
            check_batch(MATRIX, len(X))
            return X.astype(np.float64)
        n = tensors.batch_size(self._features)
        columns = {name: tensors.vector(name, self.datatype(name), n) for name in self._features}
        return encode_columns(columns, n, self._features, self._categorical)

    def _by_columns(self, tensors: Tensors) -> Matrix:
        given: NDArray[Any] = tensors.array(FEATURES, ("FP64", "FP32"), (None, None))
        n, width = given.shape
        check_batch(FEATURES, n)
        names = tensors.text_parameter(FEATURES, COLUMNS)
        columns, places = self._places(names)
        if columns != width:
            raise InvalidRequest(
                f"field {FEATURES!r} has {width} columns, but its parameter {COLUMNS!r} names {columns}"
            )
        X = np.empty((n, len(self._features)))
        X[:, self._numbers] = given[:, places]
        for position, name in self._text:
            X[:, position] = encode_levels(tensors.vector(name, "BYTES", n), self._codes[name])
        return X

    def _find(self, names: str) -> tuple[int, NDArray[np.int64]]:
        """How many columns are named, and where among them the numbers of the matrix are.

        Raises:
            InvalidRequest: one is missing.
        """
        columns = names.split(",")
        at = {name: place for place, name in enumerate(columns)}
        for position in self._numbers:
            if self._features[position] not in at:
                raise InvalidRequest(f"field {FEATURES!r} lacks the column {self._features[position]!r}")
        return len(columns), np.array([at[self._features[position]] for position in self._numbers], np.int64)
