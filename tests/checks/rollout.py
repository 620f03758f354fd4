"""`make check-rollout`: the rollout pipeline as KFP's local runner runs it, against the local KServe and a real MLflow.

Both models of a good challenger are rolled out, one run each; a challenger whose answers fail is sent back by the exit
step. Small fakes stand for the three services: what is proven is the pipeline, its steps and what they do to KServe.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from mlflow import MlflowClient
from rich.console import Console

from components.kserve_api import DETECTOR, GNN, serving
from components.model_registry import ModelSet, registered
from components.register_model.logic import register_all
from pipelines.errors import StepError
from pipelines.local_pipeline import run_process
from pipelines.report import Row
from simulators.local_services import MlflowServer
from tests.bounds import conclude, leave
from tests.conftest import ROOT
from tests.pipeline.model_sets import make_set, request
from tests.pipeline.rollout_stage import MANIFESTS, Stage, set_stage, start_kserve

STEPS = 11


def main() -> int:
    """Returns 1 when a bound is missed."""
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as scratch, start_kserve(Path(scratch) / "kserve") as kserve:
        folder = Path(scratch)
        with MlflowServer(folder / "mlflow") as mlflow:

            def stage_of(word: str) -> Stage:
                return set_stage(kserve, *_registered(mlflow.url, folder / word, word), folder / word / "home")

            rows += _back(stage_of("failing"), mlflow.url, folder)
            rows += _forth(stage_of("good"), mlflow.url, folder)
    return conclude(rows, ROOT / ".local" / "reports" / "rollout.json", Console(highlight=False))


def _registered(url: str, folder: Path, word: str) -> tuple[ModelSet, ModelSet]:
    client = MlflowClient(url)
    run = client.create_run(client.create_experiment(word)).info.run_id
    champion = make_set(folder / "champion", f"champion of {word}")
    register_all(client, run, champion, request(folder, "champion"))
    register_all(client, run, make_set(folder / word, word, champion=champion), request(folder, "challenger"))
    return registered(url, "champion"), registered(url, "challenger")


def _run(stage: Stage, url: str, folder: Path, model: str, finished: Callable[[int], None]) -> None:
    settings = {"every_s": 0.5, "patience_s": 300, "judge": {"least_decisions": 50}}
    arguments = {
        "tracking_uri": url,
        "model": model,
        "decisions_path": str(stage.log),
        "policy": (MANIFESTS / "policy" / "threshold_settings.yaml").read_text(),
        "settings": settings,
    }
    environment = {"KUBECONFIG": str(stage.kserve.kubeconfig)}
    with stage.traffic():
        run_process("pipelines.rollout_pipeline", arguments, folder, finished=finished, environment=environment)


def _back(stage: Stage, url: str, folder: Path) -> list[Row]:
    said = ""
    try:
        _run(stage, url, folder / "back", "fraud-lightgbm", lambda _: None)
    except StepError as error:
        said = str(error).partition(" (log:")[0]
    return [
        _met("a challenger that fails: the run ends with", said, "judge-canary failed", "judge-canary" in said),
        _served("then serves", stage, stage.champion),
    ]


def _forth(stage: Stage, url: str, folder: Path) -> list[Row]:
    rows = []
    for model in ("fraud-lightgbm", "fraud-gnn"):
        done, begun = [0], time.monotonic()
        _run(stage, url, folder / model, model, done.append)
        rows.append(_met(f"{model}: steps that succeeded", done[-1], str(STEPS), done[-1] == STEPS))
        rows.append(Row(f"{model}: the whole run", time.monotonic() - begun, "s"))
    champion = registered(url, "champion").fusion.sha12
    moved = champion == stage.challenger.fusion.sha12
    return [
        *rows,
        _met("alias champion", champion, "the challenger", moved),
        _served("then serves", stage, stage.challenger),
    ]


def _served(name: str, stage: Stage, models: ModelSet) -> Row:
    found = [serving(stage.api, service) for service in (DETECTOR, GNN)]
    asked = [models.lightgbm.storage_uri, models.gnn.storage_uri]
    alone = [now.storage_uri for now in found] == asked and all(now.percent is None and now.ready for now in found)
    words = {stage.champion.lightgbm.sha12: "champion", stage.challenger.lightgbm.sha12: "challenger"}
    return _met(name, words[found[0].storage_uri[-12:]], f"{words[models.lightgbm.sha12]}, alone", alone)


def _met(name: str, value: str | int, bound: str, met: bool) -> Row:
    return Row(name, value, bound=bound, met=met)


if __name__ == "__main__":
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    leave(main())
