"""Tells MLflow what waits in an outbox, in order; said twice, each thing is there once."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TypeVar

from mlflow.entities import Metric, Param, RunTag

from components.errors import MlflowUnreachable
from components.mlflow_client import MlflowClient, MlflowException, is_away, mlflow_client, unreachable
from components.outbox import OUTBOX_VARIABLE, Kept, Outbox
from components.register_model.logic import MODELS, Registration, register_all

T = TypeVar("T")
EXPERIMENT = "fraud-training"
# A tag that the run carries from the moment it is made, so that it is found again and not made twice.
KEY_TAG = "fraud.outbox"
_CHILD_TAG = "fraud.outbox.record"
# The most that one call of MLflow's API takes.
_METRICS, _PARAMS, _TAGS = 1000, 100, 100


@contextmanager
def telling(tracking_uri: str, run_id: str) -> Iterator[Outbox]:
    """What a step says while inside is delivered at the end, or waits where `FRAUD_OUTBOX` names a folder.

    Args:
        tracking_uri: MLflow server.
        run_id: the run, as the pipeline was given it.

    Raises:
        MlflowUnreachable: the server is away and no folder is named: the step fails, and may be tried again.
    """
    kept_in = os.environ.get(OUTBOX_VARIABLE)
    with tempfile.TemporaryDirectory() as scratch:
        outbox = Outbox.of_run(Path(kept_in or scratch), run_id)
        yield outbox
        try:
            deliver(outbox, tracking_uri)
        except MlflowUnreachable as error:
            if not kept_in:
                raise
            # Into the log of the steps; the command line says it when the run ends.
            print(f"kept in {outbox.folder}: {error}", flush=True)  # noqa: T201


def deliver(outbox: Outbox, tracking_uri: str) -> str:
    """Delivers what waits and returns MLflow's id of the run.

    A record goes once MLflow has it. Killed at any point, the next call goes on with the record at which it stopped.

    Raises:
        MlflowUnreachable: the server is away; what was not delivered waits on.
        MlflowException: the server refused a record, which waits on.
        BundleError: a bundle that waits to be registered was altered.
    """
    with outbox.delivering():
        client = mlflow_client(tracking_uri)
        for kept in outbox.waiting():
            try:
                _SAY[kept.record.kind](client, outbox, kept)
            except (MlflowException, OSError) as error:
                if is_away(error):
                    raise unreachable(tracking_uri, error) from error
                raise
            kept.drop()
        return _run_id(outbox)


def _run_id(outbox: Outbox) -> str:
    run_id = outbox.run_id()
    if run_id is None:
        raise FileNotFoundError(f"{outbox.folder} holds no run: its first record is gone")
    return run_id


def _open_run(client: MlflowClient, outbox: Outbox, kept: Kept) -> None:
    tags = {**_texts(kept.record.values), KEY_TAG: outbox.folder.name}
    outbox.write_run_id(_found_or_made(client, _experiment(client), kept, KEY_TAG, tags))


def _found_or_made(client: MlflowClient, experiment: str, kept: Kept, key: str, tags: Mapping[str, str]) -> str:
    """The run whose tag `key` has the value that `tags` gives it, made where there is none."""
    known = client.search_runs([experiment], f"tags.`{key}` = '{tags[key]}'", max_results=1)
    made = known[0] if known else client.create_run(experiment, kept.record.at_ms, dict(tags), kept.record.name)
    return str(made.info.run_id)


def _experiment(client: MlflowClient) -> str:
    found = client.get_experiment_by_name(EXPERIMENT)
    return str(found.experiment_id if found else client.create_experiment(EXPERIMENT))


def _nested_run(client: MlflowClient, outbox: Outbox, kept: Kept) -> None:
    parent = _run_id(outbox)
    said: dict[str, dict[str, str | float]] = {"params": {}, "metrics": {}, "tags": {}}
    for name, value in kept.record.values.items():
        part, _, inner = name.partition(".")
        said[part][inner] = value
    tags = {**_texts(said["tags"]), "mlflow.parentRunId": parent, _CHILD_TAG: f"{parent}/{kept.key}"}
    experiment = client.get_run(parent).info.experiment_id
    run_id = _found_or_made(client, experiment, kept, _CHILD_TAG, tags)
    _log(client, run_id, kept.record.at_ms, params=said["params"], metrics=said["metrics"])
    client.set_terminated(run_id, end_time=kept.record.at_ms)


def _log(
    client: MlflowClient,
    run_id: str,
    at_ms: int,
    *,
    params: Mapping[str, str | float] | None = None,
    metrics: Mapping[str, str | float] | None = None,
    tags: Mapping[str, str | float] | None = None,
) -> None:
    for part in _parts(_texts(params or {}), _PARAMS):
        client.log_batch(run_id, params=[Param(*item) for item in part.items()])
    for part in _parts(_texts(tags or {}), _TAGS):
        client.log_batch(run_id, tags=[RunTag(*item) for item in part.items()])
    # The same value at the same instant is one point of the metric, however often it is logged.
    for numbers in _parts({name: float(value) for name, value in (metrics or {}).items()}, _METRICS):
        client.log_batch(run_id, metrics=[Metric(name, value, at_ms, 0) for name, value in numbers.items()])


def _parts(values: Mapping[str, T], size: int) -> Iterator[dict[str, T]]:
    items = iter(values.items())
    while part := dict(islice(items, size)):
        yield part


def _texts(values: Mapping[str, str | float]) -> dict[str, str]:
    return {name: str(value) for name, value in values.items()}


def _params(client: MlflowClient, outbox: Outbox, kept: Kept) -> None:
    _log(client, _run_id(outbox), kept.record.at_ms, params=kept.record.values)


def _tags(client: MlflowClient, outbox: Outbox, kept: Kept) -> None:
    _log(client, _run_id(outbox), kept.record.at_ms, tags=kept.record.values)


def _metrics(client: MlflowClient, outbox: Outbox, kept: Kept) -> None:
    _log(client, _run_id(outbox), kept.record.at_ms, metrics=kept.record.values)


def _artifacts(client: MlflowClient, outbox: Outbox, kept: Kept) -> None:
    client.log_artifacts(_run_id(outbox), str(kept.files), kept.record.name or None)


def _register(client: MlflowClient, outbox: Outbox, kept: Kept) -> None:
    request = Registration.model_validate(kept.record.values)
    folders = {model: kept.files / model for model in MODELS}
    register_all(client, _run_id(outbox), folders, request, evaluation=kept.files / "evaluation.json")


def _end(client: MlflowClient, outbox: Outbox, kept: Kept) -> None:
    client.set_terminated(_run_id(outbox), kept.record.name, kept.record.at_ms)


_SAY: Mapping[str, Callable[[MlflowClient, Outbox, Kept], None]] = {
    "run": _open_run,
    "child": _nested_run,
    "params": _params,
    "tags": _tags,
    "metrics": _metrics,
    "artifacts": _artifacts,
    "register": _register,
    "end": _end,
}
