"""The `fraud` command as a user types it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

COMMANDS = ["demo", "simulate", "data", "features", "train", "materialize", "serve", "score", "replay"]


def fraud(*arguments: object, text: str | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pipelines.cli", *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200"}
    return subprocess.run(
        command, capture_output=True, text=True, timeout=120, check=False, cwd=ROOT, env=environment, input=text
    )


def test_help_lists_every_command() -> None:
    done = fraud("--help")
    assert done.returncode == 0
    assert all(f" {name} " in done.stdout for name in COMMANDS)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with three simulated days, two of them ingested."""
    home = tmp_path_factory.mktemp("cli") / "home"
    assert fraud("simulate", "--home", home, "--days", 3, "--events-per-day", 300).returncode == 0
    done = fraud("data", "ingest", "--home", home)
    assert done.returncode == 0, done.stderr
    return home


def test_datasets_are_snapshots_that_can_be_checked_out(home: Path) -> None:
    first = fraud("data", "snapshot", "--home", home).stdout.split()[-7:]
    again = fraud("data", "snapshot", "--home", home)
    name = again.stdout.splitlines()[-1].split()[0]
    assert first[0] == name
    assert len(name) == 12
    assert name in fraud("data", "list", "--home", home).stdout
    done = fraud("data", "checkout", name[:6], "--home", home)
    assert done.returncode == 0
    assert (home / "datasets" / "CURRENT").read_text().startswith(name)


ERRORS: dict[str, tuple[list[str], str]] = {
    "a world that is there": (["simulate", "--home", "{home}", "--days", "3"], "force to replace"),
    "no world": (["data", "ingest", "--home", "{empty}"], "run `fraud simulate` first"),
    "no log": (["data", "snapshot", "--home", "{empty}"], "run `fraud data ingest` first"),
    "no dataset": (["train", "--home", "{empty}"], "run `fraud data ingest` and `fraud data snapshot` first"),
    "unknown dataset": (["data", "checkout", "zzz", "--home", "{home}"], "0 datasets match 'zzz'"),
    "unknown alias": (["train", "--home", "{home}", "--alias", "best"], "champion and challenger"),
    "nothing to follow on": (["train", "--home", "{home}", "--follow", "x"], "--follow needs --host"),
    "a cluster and no MLflow": (
        ["train", "--home", "{home}", "--host", "http://127.0.0.1:1"],
        "set MLFLOW_TRACKING_URI",
    ),
    "too short a history": (["train", "--home", "{home}"], "step 'validate-events' failed"),
    "no champion": (["serve", "--home", "{home}"], "no champion registered: run `fraud train --alias champion`"),
    "nothing runs": (["replay", "--home", "{home}"], "start them with `fraud serve`"),
    "no file": (["score", "{home}/none.json", "--home", "{home}"], "no file"),
    "a folder for a file": (["score", "{home}", "--home", "{home}"], "Is a directory"),
    "not a date": (["data", "snapshot", "--home", "{home}", "--cutoff", "today"], "is not a date"),
    "too few events": (["simulate", "--home", "{empty}/x", "--events-per-day", "20"], "events_per_day"),
    "an unknown scenario": (
        ["simulate", "--home", "{empty}/x", "--scenario", "theft"],
        "no scenario 'theft': there are",
    ),
    "an unknown world": (["simulate", "--home", "{empty}/x", "--world", "world-v0"], "there is world-v1"),
    "a frozen world of another size": (
        ["simulate", "--home", "{empty}/x", "--world", "world-v1", "--days", "3"],
        "--world fixes all but the seed",
    ),
    "two sizes": (["simulate", "--home", "{empty}/x", "--events", "9000", "--days", "3"], "leave out --days"),
    "no Redis to write to": (
        ["materialize", "--home", "{home}", "--redis-url", "redis://127.0.0.1:1"],
        "Redis does not answer",
    ),
    "no cutoff": (
        ["materialize", "--home", "{home}", "--redis-url", "redis://127.0.0.1:1", "--cutoff", "now"],
        "--cutoff 'now' is not a date",
    ),
    "no graph model": (
        ["materialize", "--home", "{home}", "--redis-url", "redis://127.0.0.1:1", "--gnn-bundle", "{empty}/none"],
        "none is no folder",
    ),
    "no Redis": (["features", "rebuild", "--home", "{home}", "--redis-url", "redis://127.0.0.1:1"], "Redis"),
}


@pytest.mark.parametrize("case", ERRORS)
def test_an_error_is_one_line_and_an_exit_code(case: str, home: Path, tmp_path: Path) -> None:
    arguments, expected = ERRORS[case]
    if case == "too short a history":
        fraud("data", "snapshot", "--home", home)
    done = fraud(*(a.format(home=home, empty=tmp_path) for a in arguments))
    assert done.returncode == 1, done.stdout
    assert "Traceback" not in done.stderr + done.stdout
    assert expected in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr


def test_a_world_of_so_many_events_or_of_one_scenario(tmp_path: Path) -> None:
    from simulators.abuse_scenarios import SCENARIOS
    from simulators.ride_hailing import read_world

    name = next(iter(SCENARIOS))
    done = fraud("simulate", "--home", tmp_path / "home", "--events", 3000, "--scenario", name)
    assert done.returncode == 0, done.stderr
    assert "simulated days" in done.stdout
    summary = read_world(tmp_path / "home" / "world")
    assert 2200 < summary.events < 3800
    assert set(summary.fraud_by_typology) == {name}


def test_standard_input_must_hold_json(home: Path) -> None:
    done = fraud("score", "-", "--home", home, text="{not json")
    assert done.returncode == 1
    assert "is not JSON" in done.stderr


def test_an_unknown_option_is_a_usage_error(home: Path) -> None:
    assert fraud("simulate", "--dys", "3", "--home", home).returncode == 2


def test_only_the_steps_pay_for_loading_pandera() -> None:
    """Half a second: the command line, the pipelines' runners and what serves do without."""
    modules = "pipelines.cli, pipelines.training, pipelines.materialization, pipelines.local_stack"
    serving = "inference_services.transformer.model, inference_services.lightgbm_predictor.model"
    check = f"import sys, {modules}, {serving}; sys.exit('pandera' in sys.modules)"
    assert subprocess.run([sys.executable, "-W", "ignore", "-c", check], cwd=ROOT, check=False).returncode == 0


def test_the_report_has_its_columns(tmp_path: Path) -> None:
    from pipelines.report import Row, write_report

    write_report(tmp_path / "r.json", [Row("latency", 1.5, "ms", "at most 50 ms", True)])
    report = json.loads((tmp_path / "r.json").read_text())
    assert set(report) == {"commit", "machine", "rows"}
    assert report["rows"] == [{"name": "latency", "value": 1.5, "unit": "ms", "bound": "at most 50 ms", "met": True}]
