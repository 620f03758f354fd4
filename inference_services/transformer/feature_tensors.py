"""The features as the tensors that the LightGBM predictor takes: text by name, all numbers in one matrix."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from feature_repo.feature_names import CATEGORICAL_FEATURES, MODEL_FEATURES

FEATURES = "features"
_NUMBERS = tuple(name for name in MODEL_FEATURES if name not in CATEGORICAL_FEATURES)
# Names the columns of the matrix, of which each version of the model picks its own.
FEATURE_PARAMETERS = {FEATURES: {"columns": ",".join(_NUMBERS)}}


def feature_tensors(features: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """The request's tensors.

    Args:
        features: MODEL_FEATURES by name, each [n].
    """
    columns = np.concatenate([features[name] for name in _NUMBERS], dtype=np.float64)
    tensors = {name: features[name] for name in CATEGORICAL_FEATURES}
    return {**tensors, FEATURES: columns.reshape(len(_NUMBERS), -1).T}
