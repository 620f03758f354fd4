"""`fraud models` as a user types it, against a real MLflow."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner, Result

from pipelines import cli_models
from pipelines.cli import app
from pipelines.tracking import open_run, outbox_root
from simulators.local_services import free_port
from tests.pipeline.model_sets import EVALUATION, make_set, request, write_evaluation


@pytest.fixture
def home(tmp_path: Path, fresh_url: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with a champion and a challenger that were trained while MLflow was away."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", fresh_url)
    away = f"http://127.0.0.1:{free_port()}"
    for alias, dataset in (("champion", "a"), ("challenger", "b")):
        with open_run(away, alias, {}, {}, outbox_root(tmp_path / "pipeline")) as run:
            precision = EVALUATION["pairs"]["challenger"]["average_precision"]
            run.outbox.keep("metrics", {"pairs.challenger.average_precision": precision})
            evaluation = write_evaluation(tmp_path / "evaluation.json")
            files = {**make_set(tmp_path / "made", alias), "evaluation.json": evaluation}
            run.outbox.keep("register", request(tmp_path, alias, dataset).values(), files=files)
    return tmp_path


def fraud(*arguments: object, home: Path) -> Result:
    return CliRunner().invoke(app, ["models", *map(str, arguments), "--home", str(home)])


def test_from_what_was_kept_to_a_champion(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def said(*arguments: object) -> str:
        text = io.StringIO()
        monkeypatch.setattr(cli_models, "console", Console(file=text, width=250))
        assert fraud(*arguments, home=home).exit_code == 0
        return text.getvalue()

    assert said("push").count("pushed kept-") == 2
    assert "nothing waits in" in said("push")
    listed = said("list")
    for part in ("fraud-fusion", "champion", "challenger", "a" * 12, "0.4100"):
        assert part in listed
    compared = said("compare")
    assert "NOT comparable" in compared
    assert "average_precision" in compared
    said("export", "--out", home / "one.json")
    said("export", "--out", home / "two.json")
    assert (home / "one.json").read_bytes() == (home / "two.json").read_bytes()
    assert len(json.loads((home / "one.json").read_text())["models"]) == 3
    assert said("promote").count("champion: fraud-") == 3
    assert "no challenger" in str(fraud("promote", home=home).exception)
