"""`python -m inference_services.gnn_predictor --model_name=fraud-gnn --model_dir=/mnt/models`."""

from __future__ import annotations

import argparse
from pathlib import Path

from inference_services.model_names import GNN
from inference_services.server import revision, serve


def _build(args: argparse.Namespace) -> object:
    # torch takes seconds to import: a wrong flag or a taken port is told before.
    from inference_services.gnn_predictor.model import GnnPredictor  # noqa: PLC0415

    return GnnPredictor(args.model_name or GNN, Path(args.model_dir), revision())


if __name__ == "__main__":
    serve("Serves a fraud-gnn bundle over the Open Inference Protocol.", _build)
