"""MLflow runs: opened with their parameters and tags, always closed, and kept for later while the server is away."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.errors import ComponentError, MlflowUnreachable
from components.mlflow_client import MlflowException, mlflow_client
from components.outbox import OUTBOX_VARIABLE, Outbox, outboxes
from components.outbox_delivery import deliver
from inference_services.errors import ServingError

__all__ = [
    "OUTBOX_VARIABLE",
    "MlflowException",
    "Pushed",
    "TrackedRun",
    "flat_params",
    "open_run",
    "outbox_root",
    "push_before",
    "push_kept",
]

_LOG = logging.getLogger(__name__)
# Besides an unreachable server, what can keep a record from being delivered: a refusal, an altered bundle or record, a
# folder of bundles that cannot be written.
_UNDELIVERED = (MlflowException, ComponentError, ServingError, OSError, ValueError)


@dataclass(slots=True)
class TrackedRun:
    """A run that is open.

    Attributes:
        tracking_uri: MLflow server.
        outbox: what has been said and not yet delivered.
        kept: where the rest waits after the run has ended; None when MLflow has it all.
    """

    tracking_uri: str
    outbox: Outbox
    kept: Path | None = None

    @property
    def run_id(self) -> str:
        """What the pipeline is given: MLflow's id, or the key under which the run is kept."""
        return self.outbox.folder.name

    def log_file(self, path: Path) -> None:
        """Keeps a file with the run, when there is one."""
        if path.exists():
            self.outbox.keep("artifacts", files={path.name: path})

    def metrics(self) -> dict[str, float]:
        """The metrics said so far, by name: from MLflow, and over them those that wait."""
        mlflow_run = self.outbox.run_id()
        found: dict[str, float] = {}
        if mlflow_run is not None:
            try:
                found = dict(mlflow_client(self.tracking_uri).get_run(mlflow_run).data.metrics)
            except MlflowUnreachable:
                _LOG.warning("MLflow does not answer: of the metrics, those that it has are not shown")
        for kept in self.outbox.waiting():
            if kept.record.kind == "metrics":
                found |= {name: float(value) for name, value in kept.record.values.items()}
        return dict(sorted(found.items()))


@contextmanager
def open_run(
    tracking_uri: str, name: str, tags: Mapping[str, str], params: Mapping[str, str], outbox: Path
) -> Iterator[TrackedRun]:
    """Opens a run while inside; a run that raises ends as FAILED.

    While MLflow is away the run goes on, and waits in the outbox for `fraud models push` or the next `fraud train`.

    Args:
        tracking_uri: MLflow server.
        name: the run's name.
        tags: for example team, purpose, dataset_version.
        params: flat parameters.
        outbox: folder of the outboxes of all runs.
    """
    with Outbox.new(outbox) as own:
        run = TrackedRun(tracking_uri, own)
        _begin(run, name, tags, params)
        status = "FAILED"
        try:
            yield run
            status = "FINISHED"
        finally:
            run.outbox.keep("end", name=status)
            _close(run)


def _begin(run: TrackedRun, name: str, tags: Mapping[str, str], params: Mapping[str, str]) -> None:
    run.outbox.keep("run", tags, name=name)
    run.outbox.keep("params", params)
    try:
        run.outbox = run.outbox.renamed(deliver(run.outbox, run.tracking_uri))
    except MlflowUnreachable as error:
        _LOG.warning("%s Training goes on, and the run is kept in %s", error, run.outbox.folder)
    except MlflowException:
        # Refused before anything was done that could be lost.
        for kept in run.outbox.waiting():
            kept.drop()
        if run.outbox.run_id() is not None:
            run.outbox.keep("end", name="FAILED")
            deliver(run.outbox, run.tracking_uri)
        run.outbox.remove()
        raise


def _close(run: TrackedRun) -> None:
    try:
        deliver(run.outbox, run.tracking_uri)
    except _UNDELIVERED as error:
        run.kept = run.outbox.folder
        _LOG.warning(
            "%s The run is kept in %s: push it with `fraud models push`; the next `fraud train` does so too",
            error,
            run.kept,
        )
    else:
        run.outbox.remove()


@dataclass(frozen=True, slots=True)
class Pushed:
    """What came of a run that was kept.

    Attributes:
        key: under which it was kept.
        run_id: MLflow's id; None when it could not be delivered.
        refused: why it stays; empty when it was delivered.
    """

    key: str
    run_id: str | None
    refused: str = ""


def outbox_root(work: Path) -> Path:
    """Where the runs of a runner's folder wait."""
    return work / "outbox"


def push_kept(tracking_uri: str, root: Path) -> list[Pushed]:
    """Delivers every run that is kept, the oldest first; runs that are still going on are left alone.

    A run whose process died without a word is delivered as far as it came, and ends as KILLED.

    Raises:
        MlflowUnreachable: the server is away; what was not delivered waits on.
    """
    pushed = []
    for outbox in outboxes(root):
        key = outbox.folder.name
        with outbox.owned() as mine:
            if not mine:
                continue
            try:
                pushed.append(Pushed(key, _push(outbox, tracking_uri)))
            except MlflowUnreachable:
                raise
            except _UNDELIVERED as error:
                # One run that the server will not have must not hold up the others.
                pushed.append(Pushed(key, None, str(error)))
    return pushed


def push_before(tracking_uri: str, root: Path) -> None:
    """Delivers what is kept before another run begins; a server that is still away is no reason not to begin."""
    try:
        pushed = push_kept(tracking_uri, root)
    except MlflowUnreachable:
        return
    for run in pushed:
        if run.refused:
            _LOG.warning("the run kept in %s stays there: %s", root / run.key, run.refused)
        else:
            _LOG.warning("pushed the run that was kept as %s", run.key)


def _push(outbox: Outbox, tracking_uri: str) -> str | None:
    waiting = outbox.waiting()
    if not waiting and outbox.run_id() is None:
        outbox.remove()  # killed before its first word
        return None
    if not any(kept.record.kind == "end" for kept in waiting) and not _has_ended(outbox, tracking_uri):
        outbox.keep("end", name="KILLED")
    run_id = deliver(outbox, tracking_uri)
    outbox.remove()
    return run_id


def _has_ended(outbox: Outbox, tracking_uri: str) -> bool:
    run_id = outbox.run_id()
    return run_id is not None and mlflow_client(tracking_uri).get_run(run_id).info.status != "RUNNING"


def flat_params(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested settings by dotted name."""
    flat: dict[str, str] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat.update(flat_params(value, f"{prefix}{name}."))
        else:
            flat[f"{prefix}{name}"] = str(value)
    return flat
