"""The materialisation pipeline: from the event log to the online store, on a cluster or in this machine's processes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import redis

from components.materialize_features.logic import PROGRESS_LINE
from feature_repo.event_log import log_days
from pipelines.errors import StepError
from pipelines.local_pipeline import run_process
from pipelines.settings import MaterializationRun
from pipelines.workspace import Workspace

STEPS = ("write-profiles", "write-embeddings", "validate-features", "materialize-features")
Bar = Callable[[str], Callable[[int, int], None]]


@dataclass(frozen=True, slots=True)
class MaterializedView:
    """What a run made of one view.

    Attributes:
        view: its name.
        rows: rows written.
        why: why those.
        newest: when its newest row became usable, ISO 8601; None where nothing was ever published.
    """

    view: str
    rows: int
    why: str
    newest: str | None


def materialize(
    workspace: Workspace,
    redis_url: str,
    bar: Bar,
    *,
    cutoff: datetime | None = None,
    gnn_bundles: Sequence[Path] | None = None,
    **choices: Any,
) -> list[MaterializedView]:
    """Runs the materialisation pipeline on the workspace.

    Args:
        workspace: where the log and the feature files are.
        redis_url: the Redis.
        bar: title -> callback (done, total) for one progress bar.
        cutoff: rows published later stay out; None for the end of the log's last day that is over.
        gnn_bundles: the graph models to embed with; None for those that have embeddings already.
        choices: further fields of `MaterializationRun`.

    Raises:
        StepError: there are no events, Redis does not answer, or a step failed.
    """
    settings = MaterializationRun(
        events=workspace.event_log,
        labels=workspace.label_log,
        features=workspace.features(redis_url),
        work=workspace.root / "pipeline",
        cutoff=cutoff or latest_cutoff(workspace.event_log, datetime.now(UTC).date()),
        gnn_bundles=tuple(workspace.embedded_bundles() if gnn_bundles is None else gnn_bundles),
        **choices,
    )
    return run_local(settings, bar)


def run_local(settings: MaterializationRun, bar: Bar) -> list[MaterializedView]:
    """Runs the pipeline in this machine's processes.

    Args:
        settings: what to materialise, and where.
        bar: title -> callback (done, total) for one progress bar: one for the steps, and one for each view's rows.

    Raises:
        StepError: Redis does not answer, or a step failed; the message has its reason and the log.
    """
    _require_redis(settings.features.redis_url)
    settings.work.mkdir(parents=True, exist_ok=True)
    folder = Path(mkdtemp(prefix=f"materialize-{settings.cutoff:%Y%m%d}-", dir=settings.work))
    steps = bar("materialisation pipeline")
    rows: dict[str, Callable[[int, int], None]] = {}

    def show(line: str) -> None:
        found = PROGRESS_LINE.search(line)
        if found:
            view, done, total = found[1], int(found[2]), int(found[3])
            if view not in rows:
                rows[view] = bar(f"{view} -> Redis")
            rows[view](done, total)

    run_process(
        "pipelines.materialization_pipeline",
        pipeline_arguments(settings),
        folder,
        finished=lambda done: steps(done, len(STEPS)),
        line=show,
        environment={
            "FRAUD_FEATURES_REDIS_URL": settings.features.redis_url,
            "FRAUD_FEATURES_REDIS_TYPE": settings.features.redis_type,
        },
    )
    report = next(folder.glob("steps/**/materialize-features/report"))
    views = [MaterializedView(**view) for view in json.loads(report.read_text())]
    # The staged files are published by now; of a run every day the log is enough to keep.
    shutil.rmtree(folder / "steps")
    return views


def pipeline_arguments(settings: MaterializationRun) -> dict[str, Any]:
    """The pipeline's parameters."""
    return {
        "events_path": str(settings.events.absolute()),
        "labels_path": str(settings.labels.absolute()),
        "offline_path": str(settings.features.offline.absolute()),
        "registry_path": str(settings.features.registry.absolute()),
        "cutoff": settings.cutoff.astimezone(UTC).isoformat(),
        "gnn_bundles": [str(folder.absolute()) for folder in settings.gnn_bundles],
        "volume_settings": settings.volumes.model_dump(),
    }


def latest_cutoff(events: Path, today: date) -> datetime:
    """The midnight (UTC) that ends the log's last day; today has not ended. A simulated log may lie in the future.

    Raises:
        StepError: the log holds no day.
    """
    days = log_days(events)
    if not days:
        raise StepError(f"no events in {events}: run `fraud data ingest` first")
    last = days[-1]
    return datetime.combine(last if last == today else last + timedelta(days=1), time(), UTC)


def _require_redis(url: str) -> None:
    """A Redis that is away costs a second here, and a minute in a step."""
    try:
        with redis.Redis.from_url(url, socket_connect_timeout=5, socket_timeout=5) as client:
            client.ping()
    except redis.RedisError as error:
        raise StepError(f"Redis does not answer: {error}") from None
