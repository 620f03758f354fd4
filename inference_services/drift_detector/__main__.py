"""`python -m inference_services.drift_detector --model_name=fraud-drift --model_dir=<a fraud-lightgbm bundle>`."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from fastapi import FastAPI
from pydantic import ValidationError

from inference_services.bundle import verify
from inference_services.drift_detector.detector import TabularDriftDetector
from inference_services.drift_detector.model import DriftModel
from inference_services.drift_detector.settings import DriftSettings
from inference_services.errors import BadSettings
from inference_services.model_names import LIGHTGBM
from inference_services.server import serve


def build(args: argparse.Namespace) -> DriftModel:
    """Loads the reference of the bundle and judges a few rows of zeros once, to warm up."""
    try:
        settings = DriftSettings()
    except ValidationError as error:
        raise BadSettings(f"environment variable FRAUD_DRIFT_*: {error.errors()[0]}") from None
    bundle = verify(Path(args.model_dir), LIGHTGBM)
    detector = TabularDriftDetector.load(bundle.folder, settings)
    detector.judge(dict.fromkeys(detector.features, np.zeros(2)))
    return DriftModel(args.model_name, detector, settings.window, bundle.label)


def add_routes(app: FastAPI, model: DriftModel) -> None:
    """KServe's payload logger posts to the root."""
    app.add_api_route("/", model.receive, methods=["POST"], response_model=None)


if __name__ == "__main__":
    serve("Judges whether live features have drifted from a bundle's reference sample.", build, add_routes=add_routes)
