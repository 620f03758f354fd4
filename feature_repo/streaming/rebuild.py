"""Fills an empty online store from the event log, through the same fold as the worker."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from feature_repo.errors import CorruptValue, MissingData
from feature_repo.event_batch import EventBatch
from feature_repo.event_log import read_log
from feature_repo.settings import KEY_TTL_SECONDS
from feature_repo.streaming.fold import Grouped, fold, state_fields, written_fields
from feature_repo.streaming.keys import COMPLETE_KEY, PARTITIONS, SEQUENCE_KEY
from feature_repo.streaming.records import KIND_NAMES, fan_out

_CHUNK = 20_000


def rebuild(log: Path, redis: Any, project: str, progress: Callable[[int, int], None] | None = None) -> int:
    """Writes the tiles and neighbours of every entity of a log; numbering goes on from its last event.

    One that was interrupted is taken up by running it again: what an entity has seen is skipped.

    Args:
        log: the event log.
        redis: a synchronous Redis client.
        project: the Feast project.
        progress: called with (events folded, events in all).

    Returns:
        The number of the last event applied.

    Raises:
        MissingData: Redis is in use, or the log is empty.
        CorruptValue: Redis holds an entity whose state cannot be read.
    """
    if redis.exists(COMPLETE_KEY):
        raise MissingData(
            "Redis already holds features, and a rebuild restores an empty Redis: empty it, or give another one"
        )
    table = read_log(log)
    numbers = table.column("stream_seq").to_numpy()
    for start in range(0, len(table), _CHUNK):
        part = EventBatch.from_arrow(table.slice(start, _CHUNK))
        _apply(redis, project, Grouped.of(fan_out(part, numbers[start : start + _CHUNK], PARTITIONS).records))
        if progress:
            progress(start + len(part), len(table))
    last = int(numbers[-1])
    redis.set(SEQUENCE_KEY, max(last, int(redis.get(SEQUENCE_KEY) or 0)))
    redis.set(COMPLETE_KEY, b"1")
    return last


def _apply(redis: Any, project: str, grouped: Grouped) -> None:
    keys, kinds = grouped.keys(project), [KIND_NAMES[kind] for kind in grouped.kinds]
    pipeline = redis.pipeline(transaction=False)
    for key, kind in zip(keys, kinds, strict=True):
        pipeline.hmget(key, state_fields(kind))
    folded = fold(grouped, pipeline.execute())
    for why in folded.broken:
        if why is not None:
            raise CorruptValue(f"{why}: empty Redis before a rebuild")
    for key, kind, values in zip(keys, kinds, folded.values, strict=True):
        if values is not None:
            pipeline.hset(key, mapping=dict(zip(written_fields(kind), values, strict=True)))
            pipeline.expire(key, KEY_TTL_SECONDS)
    pipeline.execute()
