"""A graph model with untrained weights, and subgraphs for it to score."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from feature_repo.graph_features import EDGE_FEATURES, HEAD_FEATURES
from feature_repo.settings import EMBEDDING_DIM
from inference_services.bundle import Bundle, write_manifest
from inference_services.model_names import GNN


def write_graph_bundle(folder: Path) -> Bundle:
    # Seconds, which only the tests of this model should pay.
    import torch

    from inference_services.gnn_predictor.network import FraudGnn, GnnConfig, save_network

    torch.manual_seed(0)
    folder.mkdir(parents=True)
    save_network(FraudGnn(GnnConfig(node_features=("degree",), hidden=8)), folder)
    (folder / "calibration.json").write_text(json.dumps({"full": {"slope": 0.9, "intercept": -1.0}}))
    return write_manifest(folder, GNN, {})


def make_graph(n: int, version: str, neighbours: int = 2, seed: int = 0) -> dict[str, np.ndarray]:
    """The tensors of n events, each with its rider and device, which have `neighbours` interactions each."""
    rng = np.random.default_rng(seed)
    e, m = 2 * n, 2 * n * neighbours

    def floats(*shape: int) -> np.ndarray:
        return rng.normal(size=shape).astype(np.float32)

    return {
        "event_features": floats(n, len(HEAD_FEATURES)),
        "endpoint_kind": np.tile([0, 2], n),
        "endpoint_event": np.arange(n).repeat(2),
        f"endpoint_embedding_{version}": floats(e, EMBEDDING_DIM),
        f"endpoint_known_{version}": np.ones(e, np.float32),
        "neighbour_kind": rng.integers(0, 4, m),
        f"neighbour_embedding_{version}": floats(m, EMBEDDING_DIM),
        f"neighbour_known_{version}": np.ones(m, np.float32),
        "edge_index": np.stack([np.arange(m), np.arange(e).repeat(neighbours)]),
        "edge_features": floats(m, len(EDGE_FEATURES)),
    }
