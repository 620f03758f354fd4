"""`fraud rules` as an analyst types it."""

from __future__ import annotations

import io
import json
from datetime import timedelta
from pathlib import Path

from rich.console import Console

from feature_repo.datasets import snapshot
from feature_repo.event_log import log_days
from feature_repo.ingestion import ingest_files
from feature_repo.pseudonyms import Pseudonymiser
from pipelines.cli_rules import table_of
from pipelines.rule_backtest import RuleResult
from pipelines.workspace import Workspace
from tests.unit.inference_services.rule_files import content, rule
from tests.unit.pipelines.test_cli import fraud


def test_a_bad_file_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "rules.yaml").write_bytes(content(rule(when="amont > 5.0")))
    done = fraud("rules", "check", tmp_path / "rules.yaml")
    assert done.returncode == 1
    assert done.stderr.startswith("fraud: ")
    assert "rule dear: when: line 1, column 1: undeclared reference to 'amont'; did you mean amount" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_the_shipped_rules_can_be_used() -> None:
    done = fraud("rules", "check")
    assert done.returncode == 0, done.stderr
    assert "rules.yaml can be used" in done.stdout
    assert "impossible_speed" in done.stdout


def test_rules_are_tried_on_a_dataset(small_world: Path, pseudonymiser: Pseudonymiser, tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "home")
    ingest_files(small_world / "events", workspace.event_log, pseudonymiser)
    cutoff = log_days(workspace.event_log)[-1] + timedelta(days=1)
    snapshot(workspace.event_log, small_world / "labels", workspace.datasets, cutoff)
    path = tmp_path / "rules.yaml"
    path.write_bytes(content(rule("every", "amount > 0.0"), rule("none", "amount > 9e9", dry_run=True)))
    done = fraud("rules", "test", "--file", path, "--home", workspace.root, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    every, none, together = found["results"]
    assert (every["rule"], none["rule"], together["rule"]) == ("every", "none", "all live rules")
    assert every["events"] == every["matches"] > 0
    # The newest days have had no time to be complained about; the others are judged.
    assert every["unlabelled"] > 0
    assert every["honest"] > 0
    assert every["fraud"] + every["honest"] + every["unlabelled"] == every["matches"]
    assert (none["mode"], none["matches"], none["precision"]) == ("dry_run", 0, None)
    assert "events judged" in done.stderr


def test_the_table_tells_each_figure() -> None:
    result = RuleResult(
        rule="dear",
        mode="dry_run",
        action="review",
        event_type="all",
        events=2000,
        matches=41,
        fraud=26,
        honest=13,
        unlabelled=2,
        errors=0,
        precision=2 / 3,
        recall=None,
        false_positive_rate=0.00312,
        saved=5_915_000.0,
        at_risk=6_500_000.0,
    )
    out = io.StringIO()
    Console(file=out, width=240).print(table_of([result]))
    line = next(line for line in out.getvalue().splitlines() if "dear" in line)
    cells = [cell.strip() for cell in line.strip("│").split("│")]
    assert cells[:8] == ["dear", "dry run", "review", "all (2,000)", "41", "26", "13", "2"]
    assert cells[8:] == ["66.7%", "", "0.3120%", "5,915,000", "6,500,000"]
