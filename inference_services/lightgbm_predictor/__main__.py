"""`python -m inference_services.lightgbm_predictor --model_name=fraud-detector --model_dir=/mnt/models`."""

from __future__ import annotations

import argparse
from pathlib import Path

from inference_services.lightgbm_predictor.model import LightGbmPredictor
from inference_services.lightgbm_predictor.scorer import LightGbmScorer
from inference_services.server import revision, serve


def build(args: argparse.Namespace) -> LightGbmPredictor:
    """Loads and warms the model that the flags name."""
    model = LightGbmPredictor(args.model_name, LightGbmScorer.load(Path(args.model_dir)), revision())
    model.load()
    return model


if __name__ == "__main__":
    serve("Serves a fraud-lightgbm bundle over the V2 protocol.", build)
