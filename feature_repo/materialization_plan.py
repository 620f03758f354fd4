"""What a run of the materialisation has to write, and why."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from feature_repo.entities import join_keys
from feature_repo.feast_format import redis_key, timestamp_field
from feature_repo.materialization_ledger import Ledger, ViewFacts
from feature_repo.publications import Publications, PublishedFile, file_columns, first_difference
from feature_repo.settings import FEAST_PROJECT, KEY_TTL_SECONDS

# An idle entity's hash expires in Redis, yet its profile does not offline: all of it is written again before that.
REFILL_AFTER_S = 28 * 86_400
# A store that lost data may still have the ledger, which lies on one shard of a cluster: some entities are looked up.
_SAMPLE = 200
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Scope:
    """How much of a view has to be written.

    Attributes:
        start_us: the first publication to write, microseconds since the epoch; None for nothing.
        full: whether that is everything.
        why: in words.
    """

    start_us: int | None
    full: bool
    why: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run is going to write of one view.

    Attributes:
        view: its name.
        file: where its rows are.
        columns: of the file.
        publications: what the file has published, up to the cutoff.
        scope: how much of it has to be written.
        before: how the view stood until now, None when it was never finished.
    """

    view: str
    file: PublishedFile
    columns: str
    publications: Publications
    scope: Scope
    before: ViewFacts | None


def plan_view(view: Any, ledger: Ledger, before: ViewFacts | None, *, until_us: int, now_us: int, client: Any) -> Plan:
    """Compares the file of a Feast view with what the ledger says of it.

    Args:
        view: a batch view.
        ledger: what was written.
        before: what the ledger says of the view, None when nothing.
        until_us: rows published later stay out, microseconds since the epoch.
        now_us: now, microseconds since the epoch.
        client: a synchronous Redis client of the online store.

    Raises:
        MissingData: the view has no file.
        CorruptValue: its file cannot be read.
    """
    keys = join_keys(view.entities)
    file = PublishedFile(
        Path(view.batch_source.path),
        keys,
        tuple(field.name for field in view.features),
        view.batch_source.timestamp_field,
    )

    def intact() -> bool:
        pipeline = client.pipeline(transaction=False)
        for names in file.sample(before.newest_us, _SAMPLE) if before else []:
            pipeline.hexists(redis_key(FEAST_PROJECT, names), timestamp_field(view.name))
        return all(pipeline.execute())

    columns = file_columns(keys, [f"{field.name}:{field.dtype}" for field in view.features])
    found = file.publications(until_us)
    scope = decide(before, ledger.publications(view.name), found, columns=columns, now_us=now_us, intact=intact)
    return Plan(view.name, file, columns, found, scope, before)


def decide(
    before: ViewFacts | None,
    known: Publications,
    found: Publications,
    *,
    columns: str,
    now_us: int,
    intact: Callable[[], bool],
) -> Scope:
    """How much of a view has to be written.

    Args:
        before: what the ledger says of it, None when nothing.
        known: the publications that were written.
        found: the publications of its file, up to the cutoff.
        columns: the columns of its file.
        now_us: now, microseconds since the epoch.
        intact: looks up whether the store still has what was written.
    """
    if not found:
        return Scope(None, False, "nothing is published")
    reason = None
    if before is None:
        reason = "it was never finished"
    elif before.columns != columns:
        reason = "its columns changed"
    elif now_us - before.filled_us >= REFILL_AFTER_S * 1_000_000:
        reason = f"idle entities expire after {KEY_TTL_SECONDS // 86_400} days"
    elif not intact():
        reason = "the store lost rows"
    if reason:
        return Scope(min(found), True, f"all, since {reason}")
    start = first_difference(known, found)
    if start is None:
        return Scope(None, False, "nothing is new")
    what = "published" if start > max(known, default=0) else "changed"
    return Scope(start, False, f"{what} from {instant(start):%Y-%m-%d %H:%M} on")


def instant(microseconds: int) -> datetime:
    """The instant, UTC, of microseconds since the epoch."""
    return _EPOCH + timedelta(microseconds=microseconds)


def microseconds(at: datetime) -> int:
    """Microseconds since the epoch of an aware instant."""
    return (at - _EPOCH) // timedelta(microseconds=1)
