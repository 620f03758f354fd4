"""The peer: the same LightGBM model under KServe's `ModelServer` as it comes."""

from __future__ import annotations

import argparse
from pathlib import Path

import kserve.model_server
from kserve import ModelServer

from inference_services.lightgbm_predictor.model import LightGbmPredictor
from inference_services.lightgbm_predictor.scorer import LightGbmScorer

if __name__ == "__main__":
    parser = argparse.ArgumentParser(parents=[kserve.model_server.parser])
    parser.add_argument("--model_dir", required=True)
    args = parser.parse_args()
    model = LightGbmPredictor(args.model_name, LightGbmScorer.load(Path(args.model_dir)), "")
    model.load()
    ModelServer(enable_latency_logging=False).start([model])
