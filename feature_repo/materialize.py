"""Copies batch features and embeddings into the online store with Feast: what is new or changed, and no more.

A run compares each view's file with what the ledger in Redis says was written, and writes from the first publication
that differs. It overwrites: Feast's own check skips a row at the timestamp that is stored, and so would skip a row that
was corrected by events which reached the log late.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass
from datetime import datetime
from io import StringIO
from typing import Any

from feature_repo.errors import StoreUnavailable
from feature_repo.materialization_ledger import AWAY, Ledger, ViewFacts, ledger_client, read_facts
from feature_repo.materialization_plan import Plan, instant, microseconds, plan_view
from feature_repo.settings import FeatureSettings

# Called with a view, its rows written, and its rows to write.
Progress = Callable[[str, int, int], None]

BATCH_ROWS = 10_000
_TIMEOUT_S = 30


@dataclass(frozen=True, slots=True)
class ViewRun:
    """What a run made of one view.

    Attributes:
        view: its name.
        rows: rows written.
        why: why those.
        newest: when the newest row in the online store became usable; None where nothing was ever published.
    """

    view: str
    rows: int
    why: str
    newest: datetime | None


def materialize(
    settings: FeatureSettings,
    until: datetime,
    progress: Progress | None = None,
    *,
    clock: Callable[[], float] = time.time,
    batch_rows: int = BATCH_ROWS,
) -> list[ViewRun]:
    """Applies the definitions and brings every batch view in the online store to its latest rows published by `until`.

    A run that was killed is taken up by running again: a view is recorded as written after its last row.

    Args:
        settings: the registry, the files and Redis.
        until: rows published later stay out.
        progress: called at the start of a view and after every batch.
        clock: seconds since the epoch.
        batch_rows: rows sent to Redis at once, at least 1.

    Raises:
        MissingData: a view has no file.
        CorruptValue: a file cannot be read.
        StoreUnavailable: Redis does not answer; the views that were not finished are not recorded.
        RunSuperseded: another run began, or Redis lost its data meanwhile.
    """
    store, views = _applied(settings, batch_rows)
    where = "before the first row was written"
    try:
        with ledger_client(settings.redis_url, settings.redis_type, _TIMEOUT_S) as client:
            ledger = Ledger(client)
            facts = read_facts(client)
            now_us, until_us = int(clock() * 1e6), microseconds(until)
            plans = [
                plan_view(v, ledger, facts.get(v.name), until_us=until_us, now_us=now_us, client=client) for v in views
            ]
            ledger.begin(max((max(plan.publications, default=0) for plan in plans), default=0))
            ledger.keep_only(view.name for view in views)
            runs = []
            for plan in plans:
                where = f"while {plan.view} was being written, which is therefore not recorded as done"
                rows = _write(store, plan, ledger, progress)
                runs.append(_record(ledger, plan, rows, int(clock() * 1e6)))
    except AWAY as error:
        raise StoreUnavailable(f"Redis failed {where}: run again to finish ({error})") from error
    return runs


def batch_views(objects: list[Any]) -> list[Any]:
    """Those of Feast's objects that materialisation writes: views with a file, served online, that nobody pushes."""
    from feast import FeatureView  # noqa: PLC0415 - a heavy import

    return [o for o in objects if type(o) is FeatureView and o.online and o.stream_source is None]


def _applied(settings: FeatureSettings, batch_rows: int) -> tuple[Any, list[Any]]:
    """Registers the definitions; returns the store and its batch views."""
    from feast import FeatureStore  # noqa: PLC0415 - a heavy import
    from feast.repo_config import MaterializationConfig  # noqa: PLC0415

    from feature_repo.definitions import configured, definitions  # noqa: PLC0415
    from feature_repo.fenced_store import STORE_TYPE  # noqa: PLC0415

    config = settings.store_config()
    address = config.online_config["connection_string"]
    config.online_config = {
        **config.online_config,
        "type": STORE_TYPE,
        "connection_string": f"{address},socket_timeout={_TIMEOUT_S}",
        "skip_dedup": True,
    }
    config.materialization_config = MaterializationConfig(pull_latest_features=True, online_write_batch_size=batch_rows)
    settings.registry.parent.mkdir(parents=True, exist_ok=True)
    store = FeatureStore(config=config)
    store.apply(configured(settings))
    # Planning compares the files where they were written, wherever the engine reads them.
    return store, batch_views(definitions(settings.offline.absolute()))


def _write(store: Any, plan: Plan, ledger: Ledger, progress: Progress | None) -> int:
    """Writes the rows of a plan; returns how many."""
    from feature_repo.fenced_store import watched  # noqa: PLC0415 - loads Feast

    if plan.scope.start_us is None:
        return 0
    end_us = max(plan.publications)
    total = plan.file.entities(plan.scope.start_us, end_us)
    written = 0
    if progress:
        progress(plan.view, 0, total)

    def after_batch(rows: int) -> None:
        nonlocal written
        written += rows
        ledger.check()
        if progress:
            progress(plan.view, written, total)

    # Feast prints a line and a bar of its own.
    with redirect_stdout(StringIO()), warnings.catch_warnings(), watched(after_batch):
        warnings.simplefilter("ignore", DeprecationWarning)
        store.materialize(instant(plan.scope.start_us), instant(end_us), feature_views=[plan.view])
    return total


def _record(ledger: Ledger, plan: Plan, rows: int, now_us: int) -> ViewRun:
    """Notes that a view is done, and where it stands."""
    before = plan.before
    newest_us = max([*plan.publications, before.newest_us if before else 0], default=0)
    if plan.publications:
        filled_us = before.filled_us if before and not plan.scope.full else now_us
        ledger.commit(plan.view, ViewFacts(newest_us, now_us, filled_us, rows, plan.columns), plan.publications)
    return ViewRun(plan.view, rows, plan.scope.why, instant(newest_us) if newest_us else None)
