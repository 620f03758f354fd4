"""The steps of a local run, each from the workspace's folders to its folders."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import httpx
import orjson

from components.model_registry import ModelSet, registered
from feature_repo.datasets import Dataset, find, list_datasets
from feature_repo.event_batch import EventBatch
from pipelines.errors import StepError
from pipelines.local_stack import MANIFESTS
from pipelines.settings import TrainingRun
from pipelines.training import TrainingResult, run_local
from pipelines.v2_events import outputs, request_body
from pipelines.workspace import Workspace

__all__ = ["ALIASES", "ModelSet", "choose_dataset", "registered", "score_batch", "train_on", "training_run"]

ALIASES = ("champion", "challenger")


def choose_dataset(workspace: Workspace, name: str | None) -> Dataset:
    """The dataset to train on: the one named, else the one checked out, else the newest.

    Raises:
        StepError: there is none.
    """
    current = workspace.datasets / "CURRENT"
    if name is None and current.exists():
        name = current.read_text().strip()
    if name is not None:
        return find(workspace.datasets, name)
    known = list_datasets(workspace.datasets)
    if not known:
        raise StepError(f"no dataset in {workspace.datasets}: run `fraud data ingest` and `fraud data snapshot` first")
    return known[-1]


def train_on(
    workspace: Workspace,
    dataset: Dataset,
    alias: str,
    tracking_uri: str,
    bar: Callable[[str], Callable[[int, int], None]],
    **choices: Any,
) -> TrainingResult:
    """Runs the training pipeline on a dataset.

    Args:
        workspace: where steps work and bundles go.
        dataset: what to train on.
        alias: champion or challenger.
        tracking_uri: MLflow server.
        bar: title -> progress callback.
        choices: further fields of `TrainingRun`.

    Raises:
        StepError: the alias is unknown, or a step failed.
    """
    settings = training_run(workspace, dataset, alias, tracking_uri=tracking_uri, purpose=f"local {alias}", **choices)
    return run_local(settings, bar(f"training pipeline: {alias}, dataset {dataset.sha12}"))


def training_run(
    workspace: Workspace, dataset: Dataset, alias: str, *, tracking_uri: str, **choices: Any
) -> TrainingRun:
    """What a run of the training pipeline on a workspace's dataset is told.

    Raises:
        StepError: the alias is unknown.
    """
    if alias not in ALIASES:
        raise StepError(f"--alias {alias!r}: there are champion and challenger")
    return TrainingRun.model_validate(
        {
            "dataset": dataset.path,
            "work": workspace.root / "pipeline",
            "tracking_uri": tracking_uri,
            "bundle_root": workspace.bundles,
            "policy": MANIFESTS / "policy" / "threshold_settings.yaml",
            "alias": alias,
            **choices,
        }
    )


def score_batch(detector_url: str, batch: EventBatch) -> list[dict[str, Any]]:
    """Scores pseudonymised events with a running detector; one record per event.

    Raises:
        StepError: the detector does not answer, or refuses.
    """

    async def post() -> httpx.Response:
        async with httpx.AsyncClient(base_url=detector_url, timeout=10) as http:
            body = orjson.dumps(request_body(batch, "fraud-score"))
            headers = {"content-type": "application/json"}
            return await http.post("/v2/models/fraud-detector/infer", content=body, headers=headers)

    try:
        answer = asyncio.run(post())
    except httpx.HTTPError as error:
        raise StepError(f"the detector at {detector_url} does not answer ({error!r}): is `fraud serve` up?") from None
    if answer.status_code != 200:
        raise StepError(f"the detector refused the request with {answer.status_code}: {answer.text[:500]}")
    columns = outputs(orjson.loads(answer.content))
    rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    for event_id, row in zip(batch["event_id"].tolist(), rows, strict=True):
        row["event_id"] = event_id
        row["reasons"] = orjson.loads(row["reasons"])
    return rows
