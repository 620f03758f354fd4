"""The training set of 300,000 events: our offline store against Feast's dask store, from the same feature files.

Ours is the join as training runs it, registry and all; the peer's registry and entity frame are made beforehand. The
world is short, which favours the peer: dask pairs every event with every published day of its entities, and beyond two
weeks its pairs no longer fit into 16 GB.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from rich.console import Console

from feature_repo.batch_features import write_batch_features
from feature_repo.event_log import read_log
from feature_repo.event_schemas import SCORED_EVENT_TYPES
from feature_repo.historical import point_in_time_join
from feature_repo.ingestion import ingest_files
from feature_repo.labels import read_labels
from feature_repo.pseudonyms import Pseudonymiser
from feature_repo.services import TRAINING_SERVICE
from pipelines.report import Row
from simulators.ride_hailing import WorldSettings, simulate
from tests.benchmarks.rounds import interleave
from tests.offline_stores import entity_rows, offline_store

EVENTS = 300_000
_DAYS = 10
_ROUNDS = 5


def run(events: int = EVENTS) -> list[Row]:
    """Measures five rounds after one in which the answers are compared."""
    with (
        tempfile.TemporaryDirectory() as folder,
        Console(stderr=True).status(f"{events:,} events, {_ROUNDS + 1} rounds of both stores"),
    ):
        scratch = Path(folder)
        scored = _scored(scratch, events)
        store = offline_store("dask", scratch / "features", scratch / "dask.db")
        service, rows = store.get_feature_service(TRAINING_SERVICE), entity_rows(scored)

        def ours() -> pd.DataFrame:
            return point_in_time_join(scored, scratch / "features", scratch / "registry.db")

        def peer() -> pd.DataFrame:
            return store.get_historical_features(rows, service).to_df()

        mine, theirs = ours(), peer()
        assert_equal_where_kept(mine, theirs)
        found = interleave(ours, peer, 1, _ROUNDS)
    lost = len(scored) - mine["event_id"].nunique()
    name = f"training set of {len(scored):,} events"
    return [
        Row(f"{name}, our offline store", found.ours_s, "s"),
        Row(f"{name}, Feast's dask store", found.peer_s, "s"),
        Row(f"{name}, ours against dask", found.ratio, "times", "at least 8", found.ratio >= 8),
        Row(f"{name}, rows that ours lost", lost, "", "none", lost == 0),
        Row(f"{name}, rows that dask lost", len(scored) - len(theirs)),
    ]


def assert_equal_where_kept(ours: pd.DataFrame, theirs: pd.DataFrame) -> None:
    """Every row that the peer kept has the same values in ours, bit for bit."""
    kept = ours.set_index("event_id").loc[theirs["event_id"]]
    for name in ours.columns.drop("event_id"):
        mine, peers = kept[name].to_numpy(), theirs[name].to_numpy()
        if pd.api.types.is_numeric_dtype(kept[name]):
            np.testing.assert_array_equal(mine.astype(float), peers.astype(float), err_msg=name)
        else:
            assert (kept[name].astype(str).to_numpy() == theirs[name].astype(str).to_numpy()).all(), name


def _scored(scratch: Path, events: int) -> pa.Table:
    """The last scored events of a log, whose feature files are written."""
    # Cancellations, one event in twenty, are not scored.
    simulate(WorldSettings(days=_DAYS, events_per_day=round(events / _DAYS * 1.15)), scratch / "world")
    ingest_files(scratch / "world" / "events", scratch / "log", Pseudonymiser(b"a benchmark's key"))
    log = read_log(scratch / "log")
    write_batch_features(log, read_labels(scratch / "world" / "labels"), scratch / "features")
    scored = log.filter(pc.is_in(log["event_type"], value_set=pa.array(SCORED_EVENT_TYPES)))
    assert len(scored) >= events
    return scored.slice(len(scored) - events)
