"""Our LightGBM predictor with `Booster.predict` for a lone row: what the single-row interface is measured against."""

from __future__ import annotations

import argparse

from inference_services.lightgbm_predictor.__main__ import build
from inference_services.lightgbm_predictor.model import LightGbmPredictor
from inference_services.server import serve


def _build(args: argparse.Namespace) -> LightGbmPredictor:
    model = build(args)
    scorer = model._scorer
    # In the place where it keeps the single-row interface.
    vars(scorer)["_single_row"] = lambda row: float(
        scorer.booster.predict(row[None], raw_score=True, num_threads=1)[0]  # type: ignore[index]
    )
    return model


if __name__ == "__main__":
    serve("Serves a fraud-lightgbm bundle without the single-row interface.", _build)
