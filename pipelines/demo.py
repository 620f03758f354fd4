"""The whole job, end to end: ingest, train a champion and a challenger, serve both, replay a day, judge it."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pandas as pd
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

from feature_repo.datasets import snapshot
from feature_repo.event_batch import EventBatch
from feature_repo.event_log import log_days
from feature_repo.event_schemas import SCORED_EVENT_TYPES
from feature_repo.ingestion import ingest_files, with_pseudonyms
from inference_services.policy_settings import ThresholdSettings
from pipelines import local_stack
from pipelines.local_stack import MANIFESTS, PROJECT_ROOT, LocalParts, Stack
from pipelines.progress import Bars
from pipelines.replay import Replayed, burst, read_day, replay
from pipelines.report import Row, write_report
from pipelines.report import judge as judge_decisions
from pipelines.steps import registered, train_on
from pipelines.v2_events import request_body
from pipelines.workspace import Workspace

CANARY_PERCENT = 10
BURST_EVENTS, BURST_CONNECTIONS = 400, 8
_DRIFT_WAIT_S = 15.0


@dataclass(frozen=True, slots=True)
class DemoSettings:
    """What to run.

    Attributes:
        workspace: where everything goes.
        drift_python: interpreter of the drift detector's environment.
        live_events: replay only the first so many events; None for the whole day.
        keep: leave the services running at the end.
    """

    workspace: Workspace
    drift_python: Path
    live_events: int | None
    keep: bool


def run_demo(settings: DemoSettings, parts: LocalParts, bars: Bars, console: Console) -> None:
    """Runs every step on a simulated world and prints the table."""
    workspace = settings.workspace
    started = time.monotonic()
    with ExitStack() as everything:
        with bars.shown():
            mlflow = parts.mlflow(workspace.mlflow)
            everything.callback(mlflow.stop)
            _ingest(workspace, bars)
            _train(workspace, "champion", mlflow.url, bars)
            serving = registered(mlflow.url, "champion")
            services = local_stack.running(workspace, parts, serving, settings.drift_python, bars.bar)
            # As in a company: the champion's services come up and serve while the challenger trains.
            with ThreadPoolExecutor(1) as aside:
                coming = aside.submit(everything.enter_context, services)
                _train(workspace, "challenger", mlflow.url, bars)
                stack = coming.result()
            rows = _serve(settings, stack, registered(mlflow.url, "challenger"), bars)
        where = mlflow.url if settings.keep else "`.venv/bin/fraud serve` starts it again"
        rows += [Row("MLflow UI", where), Row("whole run", time.monotonic() - started, "s")]
        write_report(PROJECT_ROOT / ".local" / "reports" / "demo.json", rows)
        console.print(_table(rows))
        if settings.keep:
            _keep(workspace, stack, mlflow.url, console)


def judge(workspace: Workspace, done: Replayed) -> list[Row]:
    """The figures of a replayed day of the workspace's simulated world, whose truth only this may open."""
    columns = ["event_id", "is_fraud"]
    truth = pq.ParquetFile(workspace.world / "truth" / "events.parquet").read(columns).to_pandas()
    policy = ThresholdSettings.read(MANIFESTS / "policy" / "threshold_settings.yaml")
    return judge_decisions(done.decisions, pd.DataFrame(truth), policy, done.wall_s)


def _ingest(workspace: Workspace, bars: Bars) -> None:
    """Takes in all days but the last, which is replayed."""
    days = len(log_days(workspace.world / "events"))
    ingest_files(
        workspace.world / "events",
        workspace.event_log,
        workspace.pseudonymiser(),
        days=days - 1,
        progress=bars.bar("ingested days"),
    )


def _train(workspace: Workspace, alias: str, mlflow_url: str, bars: Bars) -> None:
    """Trains the champion on what was known a week earlier, the challenger on everything."""
    today = log_days(workspace.event_log)[-1] + timedelta(days=1)
    cutoff = today - timedelta(days=7) if alias == "champion" else today
    dataset = snapshot(workspace.event_log, workspace.label_log, workspace.datasets, cutoff)
    train_on(workspace, dataset, alias, mlflow_url, bars.bar)


def _serve(settings: DemoSettings, stack: Stack, candidate: Any, bars: Bars) -> list[Row]:
    workspace = settings.workspace
    stack.canary(candidate.lightgbm, candidate.fusion, CANARY_PERCENT)
    revision = next(t["revisionName"] for t in stack.predictor_traffic() if t.get("latestRevision"))
    table = read_day(workspace.world / "events", workspace.live_day(), settings.live_events)
    progress = bars.bar("replayed events")
    done = asyncio.run(replay(table, stack.detector_url, stack.redis_url, workspace.pseudonymiser(), progress))
    rows = judge(workspace, done)
    rows.append(Row("share served by the canary", stack.share(revision), "share"))
    rows += _drift_rows(stack)
    events = _scored(table, workspace)
    rate = asyncio.run(burst(events, stack.detector_url, BURST_CONNECTIONS))
    rows.append(Row(f"throughput, {BURST_CONNECTIONS} connections", rate, "requests/s"))
    return rows


def _drift_rows(stack: Stack) -> list[Row]:
    """The detector's verdict on its last whole window; waits a little for the bridge to deliver."""
    deadline = time.monotonic() + _DRIFT_WAIT_S
    found = stack.drift()
    while found.get("fraud_drift_windows_total", 0) < 1 and time.monotonic() < deadline:
        time.sleep(0.5)
        found = stack.drift()
    windows = int(found.get("fraud_drift_windows_total", 0))
    if not windows:
        return [Row("drift verdict", "not enough events for one window")]
    if not found.get("fraud_drift_detected", 0):
        return [Row("drift verdict", "no drift")]
    features = {k.split('"')[1]: v for k, v in found.items() if k.startswith("fraud_drift_feature_detected{")}
    moved = [name for name, drifted in features.items() if drifted]
    return [Row("drift verdict", f"drift in {len(moved)} of {len(features)} features: {', '.join(moved[:3])}")]


def _scored(table: Any, workspace: Workspace) -> EventBatch:
    batch = EventBatch.from_arrow(table)
    scored = np.flatnonzero(np.isin(batch["event_type"].astype(str), SCORED_EVENT_TYPES))[:BURST_EVENTS]
    return with_pseudonyms(batch.take(scored), workspace.pseudonymiser())


def _table(rows: list[Row]) -> Table:
    table = Table("measure", "value", title="One replayed day", title_justify="left")
    for row in rows:
        table.add_row(row.name, row.text())
    return table


def _keep(workspace: Workspace, stack: Stack, mlflow_url: str, console: Console) -> None:
    table = read_day(workspace.world / "events", workspace.live_day(), 50)
    body = workspace.root / "event.json"
    body.write_bytes(orjson.dumps(request_body(_scored(table, workspace).take(np.array([0])), "try-me")))
    console.print("Score an event:")
    console.print(f"  {local_stack.curl_line(stack.detector_url, body)}")
    local_stack.wait_for_interrupt(workspace, stack, mlflow_url, console)
