"""Fills an empty online store from the event log, through the same fold as the worker."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa

from feature_repo.errors import MissingData
from feature_repo.event_batch import EventBatch
from feature_repo.event_log import read_log
from feature_repo.settings import KEY_TTL_SECONDS
from feature_repo.streaming.fold import EntityState, records, state_key, write_state
from feature_repo.streaming.publisher import SEQUENCE_KEY
from feature_repo.tiles import ACTIVITY_KINDS

_CHUNK = 20_000
Entity = tuple[str, tuple[str, ...]]


def rebuild(log: Path, redis: Any, project: str, progress: Callable[[int, int], None] | None = None) -> int:
    """Writes the tiles and neighbours of every entity of a log; numbering goes on from its last event.

    Args:
        log: the event log.
        redis: a synchronous Redis client.
        project: the Feast project.
        progress: called with (events folded or entities written, events and entities in all).

    Returns:
        The number of the last event applied.

    Raises:
        MissingData: Redis is not empty, or the log is.
    """
    if redis.exists(SEQUENCE_KEY):
        raise MissingData(
            "Redis already holds numbered events, and a rebuild restores an empty Redis: empty it, or give another one"
        )
    table = read_log(log)
    # The trimming clock of an entity is its own latest event: knowing it beforehand spares most of the tiles.
    latest = {kind: _latest_events(table, kind) for kind in ACTIVITY_KINDS}
    states: dict[Entity, EntityState] = {}
    for start in range(0, len(table), _CHUNK):
        part = table.slice(start, _CHUNK)
        for record in records(EventBatch.from_arrow(part), part.column("stream_seq").to_numpy()):
            identity: Entity = (record.kind, record.keys)
            state = states.get(identity)
            if state is None:
                state = states[identity] = EntityState.new(record.kind)
            state.apply(record, latest[record.kind][record.keys])
        if progress:
            progress(start + len(part), len(table) + len(states))
    pipeline = redis.pipeline(transaction=False)
    for done, ((kind, keys), state) in enumerate(states.items(), 1):
        key = state_key(project, kind, keys)
        pipeline.hset(key, mapping=write_state(state))
        pipeline.expire(key, KEY_TTL_SECONDS)
        if done % 1000 == 0 or done == len(states):
            pipeline.execute()
            if progress:
                progress(len(table) + done, len(table) + len(states))
    last = int(table.column("stream_seq")[-1].as_py())
    redis.set(SEQUENCE_KEY, last)
    return last


def _latest_events(table: pa.Table, kind: str) -> dict[tuple[str, ...], int]:
    """When each entity of a kind acted last, microseconds."""
    names = list(ACTIVITY_KINDS[kind].id_fields)
    acts = table.select([*names, "event_timestamp"]).drop_null()
    acts = acts.set_column(len(names), "at", acts["event_timestamp"].cast(pa.int64()))
    grouped = acts.group_by(names).aggregate([("at", "max")])
    keys = zip(*(grouped[name].to_pylist() for name in names), strict=True)
    return dict(zip(keys, grouped["at_max"].to_pylist(), strict=True))
