"""The LightGBM predictor with `FastRows` in place of `Booster.predict` for one row, as `single_row` measures it."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np

from inference_services.lightgbm_predictor.model import LightGbmPredictor
from inference_services.lightgbm_predictor.scorer import LightGbmScorer
from inference_services.server import revision, serve
from tests.benchmarks.fast_rows import FastRows


class FastBooster(lightgbm.Booster):
    """A booster whose raw score of one row takes the short way."""

    def __init__(self, model_file: Path) -> None:
        super().__init__(model_file=model_file)
        self._fast = FastRows(self)

    def predict(self, data: Any, *, raw_score: bool = False, **options: Any) -> Any:
        """As `Booster.predict`."""
        if raw_score and len(data) == 1:
            return np.array([self._fast(data[0])])
        return super().predict(data, raw_score=raw_score, **options)


def build(args: argparse.Namespace) -> LightGbmPredictor:
    """Loads the bundle and puts the fast rows in."""
    folder = Path(args.model_dir)
    scorer = replace(LightGbmScorer.load(folder), booster=FastBooster(folder / "model.bst"))
    model = LightGbmPredictor(args.model_name, scorer, revision())
    model.load()
    return model


if __name__ == "__main__":
    serve("The LightGBM predictor with fast rows, for a benchmark.", build)
