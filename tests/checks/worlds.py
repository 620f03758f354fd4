"""A simulated world as the checks see it: raw events with the truth, and the platform's own features."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import numpy as np
import pandas as pd

from feature_repo.datasets import Dataset, snapshot
from feature_repo.event_log import append, log_days, read_log
from feature_repo.historical import training_frame
from feature_repo.ingestion import ingest_files
from feature_repo.pseudonyms import Pseudonymiser
from pipelines.prequential.controls import shuffle_edges
from simulators.ride_hailing import WorldSettings, days, read_events, read_truth, simulate

WARM_UP_DAYS = 3
# Shares of the days after the warm-up, in order. The test part is large: fraud is rare and its figures need n.
_SPLIT_ENDS = {"train": 0.5, "valid": 0.6, "calibrate": 0.65, "test": 1.0}


@dataclass(frozen=True)
class World:
    """One seed's world.

    Attributes:
        seed: its seed.
        events: raw events with is_fraud, typology, ring_id, split and hour (of the local day).
        features: one row per scored event: `MODEL_FEATURES`, y (the truth), typology, ring_id, rider_id, split.
        shuffled: the same after the edges were shuffled.
    """

    seed: int
    events: pd.DataFrame
    features: pd.DataFrame
    shuffled: pd.DataFrame


def make_world(settings: WorldSettings, folder: Path) -> World:
    """Simulates a world and builds its features twice: as it is, and with its edges shuffled."""
    simulate(settings, folder / "world")
    events = raw_events(folder / "world")
    ingest_files(folder / "world" / "events", folder / "log", Pseudonymiser(b"a key for the checks only"))
    features = _features(folder / "log", folder / "plain", folder / "world" / "labels")
    log = shuffle_edges(read_log(folder / "log"), settings.rng("edge shuffle"))
    append(folder / "shuffled_log", log)
    shuffled = _features(folder / "shuffled_log", folder / "shuffled", folder / "world" / "labels")
    return World(settings.seed, events, with_truth(features, events), with_truth(shuffled, events))


def raw_events(world: Path) -> pd.DataFrame:
    """Every event as it was sent, with the truth, the split of its day and the hour of the local day."""
    table: pd.DataFrame = pd.concat([read_events(world, day).to_pandas() for day in days(world)], ignore_index=True)
    table = table.merge(read_truth(world).to_pandas(), on="event_id", validate="1:1")
    local = table["event_timestamp"] + pd.Timedelta(hours=3.5)
    day = (table["event_timestamp"].dt.normalize() - table["event_timestamp"].min().normalize()).dt.days
    hour = local.dt.hour + local.dt.minute / 60
    return table.assign(day=day, hour=hour, weekday=local.dt.dayofweek, split=splits(day.to_numpy()))


def splits(day: np.ndarray) -> np.ndarray:
    """The split of each day number, "none" in the warm-up, shape [n]."""
    part = (day - WARM_UP_DAYS) / max(day.max() + 1 - WARM_UP_DAYS, 1)
    names = list(_SPLIT_ENDS)
    position = np.searchsorted(list(_SPLIT_ENDS.values()), part, side="right")
    return np.where(part < 0, "none", np.array(names, object)[np.minimum(position, len(names) - 1)])


def with_truth(features: pd.DataFrame, events: pd.DataFrame) -> pd.DataFrame:
    """Features with y and what else the truth says, aligned by event."""
    truth = events.set_index("event_id")[["is_fraud", "typology", "ring_id", "rider_id", "split"]]
    joined = features.join(truth, on="event_id", how="inner")
    return joined.assign(y=joined["is_fraud"].astype(float)).reset_index(drop=True)


def _features(log: Path, work: Path, labels: Path) -> pd.DataFrame:
    cutoff = log_days(log)[-1] + timedelta(days=1)
    dataset: Dataset = snapshot(log, labels, work / "datasets", cutoff)
    return training_frame(dataset.path, work / "work")
