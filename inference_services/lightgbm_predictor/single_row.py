"""Raw scores one row at a time through LightGBM's C interface, on the library that the `lightgbm` package has loaded.

`Booster.predict` checks and copies its input, parses its parameters and builds a predictor for each call;
`LGBM_BoosterPredictForMatSingleRowFastInit` (LightGBM's `c_api.h`) does so once.
"""

from __future__ import annotations

import ctypes
import threading

import lightgbm
import numpy as np
from numpy.typing import NDArray

# `c_api.h`: C_API_PREDICT_RAW_SCORE and C_API_DTYPE_FLOAT64.
_RAW_SCORE, _FLOAT64 = 1, 1
_ALL = -1
_LIB: ctypes.CDLL = lightgbm.basic._LIB  # type: ignore[attr-defined]


class SingleRow:
    """A booster with one output, with the buffers of its calls, which threads use in turn.

    Args:
        booster: kept, since the library's handle is its.
    """

    def __init__(self, booster: lightgbm.Booster) -> None:
        self._booster = booster
        self._lock = threading.Lock()
        self._row = np.zeros(booster.num_feature())
        self._score = ctypes.c_double()
        self._length = ctypes.c_int64()
        self._config = ctypes.c_void_p()
        _check(
            _LIB.LGBM_BoosterPredictForMatSingleRowFastInit(
                booster._handle,
                ctypes.c_int(_RAW_SCORE),
                ctypes.c_int(0),
                ctypes.c_int(_ALL),
                ctypes.c_int(_FLOAT64),
                ctypes.c_int32(len(self._row)),
                ctypes.c_char_p(b"num_threads=1"),
                ctypes.byref(self._config),
            )
        )
        self._predict = _LIB.LGBM_BoosterPredictForMatSingleRowFast
        self._arguments = (
            self._config,
            ctypes.c_void_p(self._row.ctypes.data),
            ctypes.byref(self._length),
            ctypes.byref(self._score),
        )

    def __call__(self, row: NDArray[np.float64]) -> float:
        """The raw score of one row [F]."""
        with self._lock:
            self._row[:] = row
            _check(self._predict(*self._arguments))
            return self._score.value


def _check(status: int) -> None:
    if status:
        raise RuntimeError(_LIB.LGBM_GetLastError().decode())
