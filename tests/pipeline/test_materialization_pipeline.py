"""The materialisation pipeline through KFP's local runner, on a small company with a real Redis."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import redis
import yaml

from feature_repo.event_log import log_days, read_log
from feature_repo.ingestion import ingest_files
from feature_repo.labels import LABEL_COLUMNS
from feature_repo.materialization_ledger import read_facts
from pipelines.compiled import GOLDEN
from pipelines.errors import StepError
from pipelines.materialization import MaterializedView, latest_cutoff, materialize
from pipelines.workspace import Workspace
from simulators.local_services import free_port
from simulators.ride_hailing import WorldSettings, simulate
from tests.conftest import ROOT
from tests.processes import needs_proc, processes_with, wait_until

Told = dict[str, list[tuple[int, int]]]


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """Six days of a small city; the last of them is not ingested."""
    workspace = Workspace(tmp_path / "home")
    simulate(WorldSettings(days=6, events_per_day=300, riders=200, drivers=30), workspace.world)
    ingest_files(workspace.world / "events", workspace.event_log, workspace.pseudonymiser(), days=5)
    return workspace


def run(workspace: Workspace, redis_url: str, until: datetime | None = None) -> tuple[list[MaterializedView], Told]:
    told: Told = {}
    views = materialize(
        workspace, redis_url, lambda title: lambda *step: told.setdefault(title, []).append(step), cutoff=until
    )
    return views, told


def midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)


def test_the_credentials_of_redis_are_no_argument_and_nothing_is_written_before_it_is_validated() -> None:
    graph, platform = yaml.safe_load_all((GOLDEN / "materialization_pipeline.yaml").read_text())
    assert "validate-features" in graph["root"]["dag"]["tasks"]["materialize-features"]["dependentTasks"]
    on_cluster = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]["exec-materialize-features"]
    assert on_cluster["secretAsEnv"][0]["keyToEnv"][0]["envVar"] == "FRAUD_FEATURES_REDIS_URL"
    assert not [name for name in graph["root"]["inputDefinitions"]["parameters"] if "redis" in name]


@pytest.mark.slow
def test_a_second_run_writes_what_the_first_could_not_know(workspace: Workspace, redis_url: str) -> None:
    days = log_days(workspace.event_log)
    first, told = run(workspace, redis_url, midnight(days[-1]))
    assert {v.view for v in first} == {*(f"{k}_profile" for k in ("rider", "driver", "device")), *OTHERS}
    assert told["materialisation pipeline"] == [(done, 4) for done in range(1, 5)]
    rows = {v.view: v.rows for v in first}
    assert told["rider_profile -> Redis"] == [(0, rows["rider_profile"]), (rows["rider_profile"],) * 2]
    second, _ = run(workspace, redis_url)
    assert all(0 < v.rows < rows[v.view] for v in second if v.view != "city_profile")
    assert {v.newest for v in second} == {(midnight(days[-1]) + timedelta(days=1)).isoformat()}
    assert {p.name for p in (workspace.root / "pipeline").glob("*/*")} == {"arguments.json", "steps.log"}


OTHERS = ("payment_instrument_profile", "city_profile")


@pytest.mark.slow
def test_the_labels_of_the_workspace_reach_the_profiles_as_far_as_they_were_observed(
    workspace: Workspace, redis_url: str
) -> None:
    first, *_, last = log_days(workspace.event_log)
    trips = read_log(workspace.event_log).to_pandas().drop_duplicates("rider_id").head(2)
    for event, day in zip(trips["event_id"], (first, last + timedelta(days=1)), strict=True):
        folder = workspace.label_log / f"day={day}"
        folder.mkdir(parents=True, exist_ok=True)
        row = {"event_id": event, "is_fraud": True, "source": "chargeback", "observed_at": midnight(day)}
        pq.write_table(pa.Table.from_pylist([row], LABEL_COLUMNS), folder / "told.parquet")
    run(workspace, redis_url)
    profiles = pd.read_parquet(workspace.features(redis_url).offline / "rider_profile.parquet")
    frauds = profiles.groupby("rider_id")["rider_confirmed_frauds"].max()
    assert frauds[trips["rider_id"]].tolist() == [1, 0]


@pytest.mark.slow
def test_a_corrupt_file_of_the_log_stops_the_run_before_anything_is_published(
    workspace: Workspace, redis_url: str
) -> None:
    file = next(workspace.event_log.glob("day=*/*.parquet"))
    file.write_bytes(file.read_bytes()[:-50])
    with pytest.raises(StepError, match=rf"step 'write-profiles' failed: {file} cannot be read as parquet"):
        run(workspace, redis_url)
    with redis.Redis.from_url(redis_url) as client:
        assert client.dbsize() == 0
    assert not (workspace.root / "offline").exists()


def test_redis_away_and_no_events_are_named(workspace: Workspace, redis_url: str, tmp_path: Path) -> None:
    with pytest.raises(StepError, match="Redis does not answer"):
        run(workspace, f"redis://127.0.0.1:{free_port()}")
    with pytest.raises(StepError, match="run `fraud data ingest` first"):
        run(Workspace(tmp_path / "empty"), redis_url)
    early = midnight(log_days(workspace.event_log)[0])
    with pytest.raises(StepError, match=rf"step 'write-profiles' failed: no events that arrived before {early.date()}"):
        run(workspace, redis_url, early)


@pytest.mark.slow
@needs_proc
def test_a_command_that_is_killed_leaves_no_process_and_the_next_one_finishes(
    workspace: Workspace, redis_url: str
) -> None:
    command = [sys.executable, "-m", "pipelines.cli", "materialize", "--home", str(workspace.root)]
    with subprocess.Popen(
        [*command, "--redis-url", redis_url],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    ) as process:
        wait_until(lambda: list(workspace.root.glob("pipeline/*/steps/**/write-profiles/features/*.parquet")))
        assert len(processes_with(str(workspace.root))) > 1
        process.send_signal(signal.SIGKILL)
    try:
        wait_until(lambda: not processes_with(str(workspace.root)))
    finally:
        for left in processes_with(str(workspace.root)):
            os.kill(left, signal.SIGKILL)
    with redis.Redis.from_url(redis_url) as client:
        assert read_facts(client) == {}
        views, _ = run(workspace, redis_url)
        assert set(read_facts(client)) == {v.view for v in views}
    assert {v.newest for v in views} == {latest_cutoff(workspace.event_log, date.min).isoformat()}


def test_the_default_cutoff_is_the_end_of_the_last_day_that_is_over(workspace: Workspace) -> None:
    last = log_days(workspace.event_log)[-1]
    assert latest_cutoff(workspace.event_log, date(2100, 1, 1)) == midnight(last) + timedelta(days=1)
    assert latest_cutoff(workspace.event_log, last) == midnight(last)
    assert latest_cutoff(workspace.event_log, date(2001, 1, 1)) == midnight(last) + timedelta(days=1)
