"""A graph model for comparing what is fed to it: its weights are drawn, not trained."""

from __future__ import annotations

from pathlib import Path

import torch

from components.train_gnn.bundle import write_bundle
from components.train_gnn.entity_graph import NODE_FEATURES
from components.train_gnn.logic import TrainedGnn
from components.train_gnn.settings import GnnSettings
from inference_services.bundle import Bundle
from inference_services.calibration import FULL, Platt
from inference_services.gnn_predictor.network import FraudGnn, GnnConfig


def untrained_bundle(folder: Path) -> Bundle:
    """Writes a fraud-gnn bundle of random weights, always the same."""
    settings = GnnSettings(hidden=16)
    config = GnnConfig(node_features=NODE_FEATURES, hidden=settings.hidden, window_days=settings.window_days)
    with torch.random.fork_rng():
        torch.manual_seed(settings.seed)
        network = FraudGnn(config)
    trained = TrainedGnn(network.eval(), validation=(0.0,), best_epoch=0, positives=0, negatives=0)
    return write_bundle(folder, trained, {FULL: Platt(1.0, 0.0)}, settings, "0" * 64)
