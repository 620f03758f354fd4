"""One model of one refit: learns, and says its calibrated log-odds about the days to calibrate on and to judge."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from components.calibration import fit_platt
from components.train_gnn import logic as gnn_logic
from components.train_gnn.bundle import fit_calibration
from components.train_gnn.entity_graph import EntityLog
from components.train_gnn.replay import score_log
from components.train_lightgbm import logic as lightgbm_logic
from inference_services.calibration import FULL
from pipelines.prequential.graph import neighbour_features
from pipelines.prequential.settings import PrequentialSettings
from pipelines.prequential.wide_trees import train_wide

ModelName = Literal["lightgbm", "lightgbm_neighbours", "gnn"]
Vector = NDArray[np.float64]
JUDGED = "judged"
Reader = Callable[[], EntityLog]


def log_odds(
    model: ModelName, learn: pd.DataFrame, judge: pd.DataFrame, log: Reader, settings: PrequentialSettings
) -> pd.DataFrame:
    """Trains one model and scores.

    Args:
        model: which.
        learn: events with `MODEL_FEATURES`, arrived, y and split ("train", "valid" or "calibrate").
        judge: events with `MODEL_FEATURES` and arrived; their labels are not here.
        log: gives the event log, for models that read the graph.
        settings: budgets.

    Returns:
        event_id, event_type, arrived, split ("calibrate" or "judged"), y (NaN where judged), log_odds.

    Raises:
        TooFewLabels: a split has no fraud or no honest events.
    """
    of = {"lightgbm": _lightgbm, "lightgbm_neighbours": _neighbours, "gnn": _gnn}
    calibrate = learn[learn["split"] == "calibrate"]
    events = pd.concat([calibrate, judge.assign(split=JUDGED, y=np.nan)], ignore_index=True)
    columns = ["event_id", "event_type", "arrived", "split", "y"]
    return events[columns].assign(log_odds=of[model](learn, events, log, settings))


def _lightgbm(learn: pd.DataFrame, events: pd.DataFrame, log: Reader, settings: PrequentialSettings) -> Vector:
    trained = lightgbm_logic.train(learn, settings.lightgbm)
    raw = lightgbm_logic.raw_scores(trained.booster, lightgbm_logic.encode(events, trained.levels))
    return trained.calibrations[FULL].log_odds(raw)


def _neighbours(learn: pd.DataFrame, events: pd.DataFrame, log: Reader, settings: PrequentialSettings) -> Vector:
    ids = pd.Index(pd.concat([learn["event_id"], events["event_id"]]).unique())
    of_nodes = neighbour_features(log(), ids.to_numpy(), settings.gnn.window_days)
    trained = train_wide(learn, of_nodes[ids.get_indexer(pd.Index(learn["event_id"]))], settings.lightgbm)
    raw = trained.raw(events, of_nodes[ids.get_indexer(pd.Index(events["event_id"]))])
    calibrate = (events["split"] == "calibrate").to_numpy()
    return fit_platt(raw[calibrate], events["y"].to_numpy(float)[calibrate]).log_odds(raw)


def _gnn(learn: pd.DataFrame, events: pd.DataFrame, log: Reader, settings: PrequentialSettings) -> Vector:
    read = log()
    labels = learn[["event_id", "y", "split"]]
    trained = gnn_logic.train(read, labels, settings.gnn)
    days = events["arrived"].astype("datetime64[us, UTC]").astype(np.int64) // 86_400_000_000
    raw = score_log(trained.network, read, sorted(days.unique().tolist()))
    found = events["event_id"].map(raw).to_numpy(float)
    return fit_calibration(raw, labels).log_odds(found)
