"""The whole step: read, train, score, calibrate, write."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from components.train_gnn.bundle import fit_calibration, write_bundle
from components.train_gnn.entity_graph import EntityLog
from components.train_gnn.logic import Progress, train
from components.train_gnn.replay import score_log
from components.train_gnn.settings import GnnSettings
from feature_repo.datasets import Dataset
from inference_services.bundle import Bundle
from inference_services.calibration import FULL, NO_GRAPH


def train_and_write(
    dataset: Dataset, frame: pd.DataFrame, settings: GnnSettings, folder: Path, progress: Progress | None = None
) -> tuple[Bundle, pd.DataFrame]:
    """Trains on a dataset, scores all of it, and writes the calibrated bundle into `folder`.

    Args:
        dataset: the events.
        frame: the training set: event_id, split (train, valid, calibrate, test, none), y (0, 1, NaN where not to be
            used) and `CONTEXT_FEATURES`.
        settings: choices of the training.
        folder: where the bundle goes.
        progress: called with (passes done, passes at most).

    Returns:
        The bundle, and event_id, gnn_raw, gnn_log_odds and gnn_log_odds_no_graph of every scored event in stream order.

    Raises:
        TooFewLabels: the splits train, valid and calibrate do not each have fraud and honest events.
    """
    log = EntityLog.read(dataset.event_table(), dataset.label_table(), frame)
    labels = frame[["event_id", "split", "y"]]
    trained = train(log, labels[labels["y"].notna()], settings, progress)
    raw = {mask: score_log(trained.network, log, graph=mask == FULL) for mask in (FULL, NO_GRAPH)}
    calibrations = {mask: fit_calibration(scores, labels) for mask, scores in raw.items()}
    bundle = write_bundle(folder, trained, calibrations, settings, dataset.sha256)
    odds = {mask: platt.log_odds(raw[mask].to_numpy()) for mask, platt in calibrations.items()}
    return bundle, raw[FULL].reset_index().assign(gnn_log_odds=odds[FULL], gnn_log_odds_no_graph=odds[NO_GRAPH])
