"""What all refits of a dataset share: features as each event saw them, and the log with its edges shuffled."""

from __future__ import annotations

import json
import shutil
import tempfile
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from hashlib import sha256
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from components.event_context import event_context
from components.train_gnn.entity_graph import EntityLog
from feature_repo.datasets import Dataset, snapshot
from feature_repo.event_log import log_days
from feature_repo.feature_names import MODEL_FEATURES
from feature_repo.graph_features import CONTEXT_FEATURES
from feature_repo.historical import training_frame
from pipelines.prequential.controls import leaked, looks_ahead, shuffle_edges
from pipelines.prequential.graph import graph_frame, read_entity_log, snapshot_frame
from pipelines.prequential.protocol import midnight
from pipelines.prequential.tasks import Task, code_digest

# What a leak is planted in.
LEAKING_FEATURE = "rider_requests_24h"
_GRAPH_EVENTS = 5000


@dataclass(frozen=True)
class Source:
    """A dataset to evaluate on, and the seed of the models.

    Attributes:
        name: of the run, as reports show it.
        dataset: the dataset.
        seed: of the training.
        truth: event_id, is_fraud, typology, ring_id of a simulated company; None where there are labels only.
    """

    name: str
    dataset: Dataset
    seed: int
    truth: pd.DataFrame | None = None

    def truth_digest(self) -> str:
        """The hash of the truth; empty without one."""
        if self.truth is None:
            return ""
        columns = self.truth[["event_id", "is_fraud", "typology"]]
        return sha256(pd.util.hash_pandas_object(columns, index=False).to_numpy().tobytes()).hexdigest()


@dataclass(frozen=True)
class Material:
    """The files of one dataset.

    Attributes:
        dataset: folder of the dataset.
        folder: where they are; its name says dataset and code.
    """

    dataset: Path
    folder: Path

    @classmethod
    def of(cls, dataset: Dataset, work: Path) -> Material:
        """Those of a dataset, whether they have been made or not."""
        return cls(dataset.path, work / f"{dataset.sha12}-{code_digest('feature_repo')[:8]}")

    @property
    def frame(self) -> Path:
        """Parquet: event_id, event_timestamp, arrived, rider_id, cluster, device_gps_accuracy_m, `MODEL_FEATURES`."""
        return self.folder / "frame.parquet"

    @property
    def shuffled(self) -> Path:
        """Parquet: the event log after `shuffle_edges`."""
        return self.folder / "shuffled.parquet"

    def tasks(self) -> list[Task]:
        """What makes them."""
        return [
            Task(self.frame, write_frame, (self.dataset,)),
            Task(self.shuffled, write_shuffled, (self.dataset,)),
        ]


def write_frame(dataset_path: Path, out: Path) -> None:
    """Writes `Material.frame`."""
    with tempfile.TemporaryDirectory(dir=out.parent) as scratch:
        features = training_frame(dataset_path, Path(scratch))
    dataset = Dataset.open(dataset_path)
    events = dataset.event_table()
    ids = events.select(["event_id", "rider_id", "ingested_at"]).to_pandas().set_index("event_id")
    frame = features.join(ids.rename(columns={"ingested_at": "arrived"}), on="event_id")
    frame.join(event_context(events), on="event_id").to_parquet(out, index=False)


def write_shuffled(dataset_path: Path, out: Path) -> None:
    """Writes `Material.shuffled`; equal datasets give equal shuffles."""
    dataset = Dataset.open(dataset_path)
    pq.write_table(shuffle_edges(dataset.event_table(), np.random.default_rng(int(dataset.sha12, 16))), out)


@lru_cache(maxsize=1)
def entity_log(material: Material, *, shuffled: bool) -> EntityLog:
    """The log as the graph models read it; the last one stays in memory, since many refits of one log follow."""
    dataset = Dataset.open(material.dataset)
    events = pq.read_table(material.shuffled) if shuffled else dataset.event_table()
    features = pd.read_parquet(material.frame, columns=["event_id", *CONTEXT_FEATURES])
    return read_entity_log(events, dataset.label_table(), features)


def write_leak_check(material: Material, days: int, window_days: int, out: Path) -> None:
    """Writes JSON: which features depend on the future, by `looks_ahead`, in events of the first days.

    "tabular" and "graph" are the real ones, "planted" a feature that does look ahead.
    """
    dataset = Dataset.open(material.dataset)
    end = dataset.first_day + timedelta(days=days)
    whole = pd.read_parquet(material.frame, columns=["event_id", "arrived", *MODEL_FEATURES])
    whole = whole[whole["arrived"] < midnight(end)].reset_index(drop=True)
    with tempfile.TemporaryDirectory(dir=out.parent) as scratch:
        cut = snapshot(dataset.path / "events", dataset.path / "labels", Path(scratch) / "datasets", end)
        prefix = training_frame(cut.path, Path(scratch) / "work")
        found = {
            "tabular": looks_ahead(_features(whole), _features(prefix)),
            "planted": looks_ahead(_planted(whole, dataset), _planted(prefix, cut)),
            "graph": _graph_looks_ahead(material, cut, prefix, window_days),
        }
    out.write_text(json.dumps({"events": len(whole), "until": str(end), **found}, indent=2) + "\n")


def _features(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.set_index("event_id")[list(MODEL_FEATURES)]


def _planted(frame: pd.DataFrame, dataset: Dataset) -> pd.DataFrame:
    events = dataset.event_table().select(["event_id", "rider_id", "event_timestamp"]).to_pandas()
    return _features(leaked(frame, events, LEAKING_FEATURE))


def _graph_looks_ahead(material: Material, cut: Dataset, prefix: pd.DataFrame, window_days: int) -> dict[str, int]:
    """The same of what the graph network reads: of the last events of the cut log, and of its edges at its end."""
    events, edges = [], []
    end = int(midnight(cut.cutoff).value // 1000)
    for log in (
        entity_log(material, shuffled=False),
        read_entity_log(cut.event_table(), cut.label_table(), prefix),
    ):
        rows = pd.Index(log.event_id).get_indexer(pd.Index(prefix["event_id"].tail(_GRAPH_EVENTS)))
        events.append(graph_frame(log, rows, window_days))
        edges.append(snapshot_frame(log, end, window_days))
    # An edge that only one of the two has counts as well.
    every = edges[0].index.union(edges[1].index)
    return looks_ahead(*events) | looks_ahead(*(part.reindex(every, fill_value=np.inf) for part in edges))


def recent(dataset: Dataset, days: int, work: Path) -> Dataset:
    """The last days of a dataset as one of its own: to have features soon. Its first days know no earlier past."""
    start = dataset.last_day - timedelta(days=days - 1)
    if start <= dataset.first_day:
        return dataset
    staging = work / f".recent-{dataset.sha12}"
    shutil.rmtree(staging, ignore_errors=True)
    for kind in ("events", "labels"):
        (staging / kind).mkdir(parents=True)
        for day in log_days(dataset.path / kind):
            if day >= start:
                name = f"day={day}"
                (staging / kind / name).symlink_to((dataset.path / kind / name).absolute())
    found = snapshot(staging / "events", staging / "labels", work / "datasets", dataset.cutoff)
    shutil.rmtree(staging)
    return found
