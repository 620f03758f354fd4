"""Writes a trained network as a fraud-gnn bundle: weights, configuration, calibration and model card."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from components.calibration import fit_platt
from components.train_gnn.logic import TrainedGnn
from components.train_gnn.settings import GnnSettings
from feature_repo.feature_names import gnn_service
from inference_services.bundle import Bundle, write_manifest
from inference_services.calibration import Platt
from inference_services.gnn_predictor.network import save_network
from inference_services.model_names import GNN


def fit_calibration(scores: pd.Series, labels: pd.DataFrame) -> Platt:
    """Fits log-odds = slope * raw + intercept on the events of the split "calibrate".

    Args:
        scores: raw scores by event_id, of one availability mask.
        labels: event_id, y (0, 1 or NaN) and split.

    Raises:
        TooFewLabels: the split has no fraud or no honest events.
    """
    chosen = labels[(labels["split"] == "calibrate") & labels["y"].notna()]
    raw: NDArray[np.float64] = chosen["event_id"].map(scores).to_numpy(float)
    scored = np.isfinite(raw)
    return fit_platt(raw[scored], chosen["y"].to_numpy(float)[scored])


def write_bundle(
    folder: Path, trained: TrainedGnn, calibrations: Mapping[str, Platt], settings: GnnSettings, dataset_sha256: str
) -> Bundle:
    """Writes the bundle into `folder`, which is created, and returns it; `calibrations` by availability mask."""
    folder.mkdir(parents=True, exist_ok=True)
    save_network(trained.network, folder)
    content = {mask: asdict(platt) for mask, platt in calibrations.items()}
    (folder / "calibration.json").write_text(json.dumps(content, indent=2) + "\n")
    (folder / "model_card.md").write_text(_model_card(trained, settings, dataset_sha256))
    facts = {
        "dataset": dataset_sha256,
        "settings": settings.model_dump(),
        "validation_average_precision": max(trained.validation),
        "embedding_dim": trained.network.config.embedding_dim,
    }
    # Its service is named by its content, which does not include the manifest: the second writing keeps the name.
    sha12 = write_manifest(folder, GNN, facts).sha12
    return write_manifest(folder, GNN, {**facts, "feature_service": gnn_service(sha12)})


def _model_card(trained: TrainedGnn, settings: GnnSettings, dataset_sha256: str) -> str:
    return f"""# fraud-gnn

Two-stage graph network over riders, drivers, devices and payment instruments. Stage 1 (two relational layers) embeds
each entity daily from the last {settings.window_days} days and the labels known by then; stage 2 (one message-passing
layer and a head) scores an event at request time from its entities' embeddings, their recent interactions, and the
store's features.

- Data: dataset {dataset_sha256[:12]}; {trained.positives} fraud events, {trained.negatives} honest ones.
- Kept pass {trained.best_epoch + 1} of {len(trained.validation)}; validation average precision
  {max(trained.validation):.3f} (at the labels' prevalence; comparable between runs on one dataset only).
- Calibrated apart for events whose embeddings cannot be read; {settings.masked_share:.0%} of each step's events were
  repeated in that state.
- Seed {settings.seed}. No weight belongs to an id: new entities are scored from their interactions alone.
- Weak where fraud leaves no trace in who meets whom, such as spoofed positions: the tabular model covers those.
"""
