"""The streaming worker: applies records to the online store and appends the event log.

    python -m feature_repo.streaming.worker --log DIR

A worker owns whole partitions. It reads a micro-batch, folds it into the entities' state, writes each entity in one
HSET that carries the last applied sequence number, and only then moves its checkpoint: a crash in between means that
records come again and are skipped.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import signal
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import redis.asyncio as aioredis
from prometheus_client import Counter, Gauge, start_http_server
from redis.exceptions import RedisError

from feature_repo.errors import CorruptValue, FeatureRepoError
from feature_repo.event_batch import EventBatch
from feature_repo.event_log import append, log_table
from feature_repo.settings import FEAST_PROJECT, KEY_TTL_SECONDS, FeatureSettings
from feature_repo.streaming.fold import Record, read_state, records, state_fields, state_key, write_state
from feature_repo.streaming.publisher import DEAD_LETTERS, LOG_STREAM, PARTITIONS, partition_stream

_BATCH = 2000
_BLOCK_MS = 200
_LOG_FLUSH_S = 5.0
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.1, 5.0

Entry = dict[bytes, bytes]
# What reading a damaged entry or state can raise.
_UNUSABLE = (FeatureRepoError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError)

APPLIED = Counter("fraud_worker_records_total", "Records applied to the online store.", ["partition"])
REPEATED = Counter("fraud_worker_repeated_records_total", "Records that were delivered again and skipped.")
DEAD = Counter("fraud_worker_dead_letters_total", "Stream entries that could not be used.")
SEQUENCE = Gauge("fraud_worker_sequence", "Number of the last event applied.", ["partition"])

logger = logging.getLogger(__name__)


def checkpoint_key(stream: str) -> str:
    """Where a worker keeps the last entry of `stream` that it finished."""
    return f"fraud:checkpoint:{stream}"


class Worker:
    """Applies the records of some partitions.

    Args:
        redis: an asynchronous Redis client that returns bytes.
        log: folder of the event log; None leaves the log to another worker.
        partitions: the partitions owned.
        project: the Feast project.
    """

    def __init__(
        self,
        redis: Any,
        log: Path | None,
        partitions: tuple[int, ...] = tuple(range(PARTITIONS)),
        project: str = FEAST_PROJECT,
    ) -> None:
        self._redis = redis
        self._log = log
        self._partitions = partitions
        self._project = project
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Asks the worker to finish what it holds and end."""
        self._stopping.set()

    async def run(self) -> None:
        """Works until `stop`."""
        async with asyncio.TaskGroup() as tasks:
            for partition in self._partitions:
                tasks.create_task(self._repeat(partial(self._apply_next, partition)))
            if self._log is not None:
                tasks.create_task(self._log_loop(self._log))

    async def _repeat(self, step: Callable[[], Awaitable[None]]) -> None:
        """Takes the step until `stop`; one that Redis or the disk fails is taken again, after longer and longer."""
        wait = 0.0
        while not self._stopping.is_set():
            try:
                await step()
            except (RedisError, OSError) as error:
                if not wait:
                    logger.warning("the worker tries again until it succeeds: %r", error)
                wait = min(_LONGEST_WAIT_S, 2 * wait or _FIRST_WAIT_S)
                await self._pause(wait)
            else:
                if wait:
                    logger.info("the worker goes on")
                wait = 0.0

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()

    async def _apply_next(self, partition: int) -> None:
        stream = partition_stream(partition)
        entries = await self._next(stream)
        if entries:
            await self.apply(partition, [fields for _, fields in entries])
            await self._finish(stream, entries[-1][0])

    async def _log_loop(self, log: Path) -> None:
        async def step() -> None:
            # Few large files rather than many small ones, except while there is more than one to write.
            if not await self._log_next(log):
                await self._pause(_LOG_FLUSH_S)

        await self._repeat(step)
        try:
            while await self._log_next(log):
                continue
        except (RedisError, OSError) as error:
            logger.warning("the last events stay in Redis, for the next worker to log: %r", error)

    async def _log_next(self, log: Path) -> bool:
        """Appends the next events to the log; returns whether there may be more."""
        entries = await self._next(LOG_STREAM)
        if entries:
            letters = await asyncio.to_thread(_append_log, log, [fields for _, fields in entries])
            for letter in letters:
                await self._redis.xadd(DEAD_LETTERS, {"letter": letter})
            await self._finish(LOG_STREAM, entries[-1][0])
        return len(entries) == _BATCH

    async def _finish(self, stream: str, last: bytes) -> None:
        await self._redis.set(checkpoint_key(stream), last)
        await self._redis.xtrim(stream, minid=last, approximate=True)

    async def _next(self, stream: str) -> list[tuple[bytes, dict[bytes, bytes]]]:
        after = await self._redis.get(checkpoint_key(stream)) or b"0"
        answer = await self._redis.xread({stream: after}, count=_BATCH, block=_BLOCK_MS)
        return answer[0][1] if answer else []

    async def apply(self, partition: int, entries: list[dict[bytes, bytes]]) -> None:
        """Folds a micro-batch, in stream order, into the entities' stored state.

        What cannot be folded goes to the dead letters: an entry that is no record, and all entries of an entity whose
        stored state cannot be read.
        """
        by_entity: dict[tuple[str, tuple[str, ...]], list[tuple[Record, Entry]]] = {}
        letters: list[bytes] = []
        for entry in entries:
            try:
                record = _record(entry)
            except _UNUSABLE as error:
                letters.append(_letter(entry, error))
            else:
                by_entity.setdefault((record.kind, record.keys), []).append((record, entry))
        keys = [state_key(self._project, kind, ids) for kind, ids in by_entity]
        reads = self._redis.pipeline(transaction=False)
        for key, (kind, _) in zip(keys, by_entity, strict=True):
            reads.hmget(key, state_fields(kind))
        writes = self._redis.pipeline(transaction=False)
        stored = await reads.execute(raise_on_error=False)
        for key, values, ((kind, _), mine) in zip(keys, stored, by_entity.items(), strict=True):
            if isinstance(values, RedisError) and not str(values).startswith("WRONGTYPE"):
                raise values
            try:
                fields = _fold(kind, values, [record for record, _ in mine])
            except _UNUSABLE as error:
                letters += [_letter(entry, error) for _, entry in mine]
                continue
            if fields:
                writes.hset(key, mapping=fields)
                writes.expire(key, KEY_TTL_SECONDS)
        for letter in letters:
            writes.xadd(DEAD_LETTERS, {"letter": letter})
        await writes.execute()
        APPLIED.labels(partition).inc(len(entries) - len(letters))
        last = max((record.stream_seq for mine in by_entity.values() for record, _ in mine), default=0)
        if last:
            SEQUENCE.labels(partition).set(last)


def _record(entry: Entry) -> Record:
    """Reads one stream entry; raises one of `_UNUSABLE` when it is not what the publisher writes."""
    event, number, _ = _event(entry)
    kind = entry[b"kind"].decode()
    for record in records(EventBatch.from_rows([event]), np.array([number], np.int64)):
        if record.kind == kind:
            return record
    raise CorruptValue(f"the event names no {kind:.80}")


def _event(entry: Entry) -> tuple[dict[str, Any], int, int]:
    body = orjson.loads(entry[b"event"])
    return body["event"], int(entry[b"stream_seq"]), int(body["ingested_at"])


def _fold(kind: str, values: Any, mine: list[Record]) -> Mapping[bytes, bytes] | None:
    """The new hash fields of an entity, or None when all its records were applied before."""
    if isinstance(values, RedisError):
        raise CorruptValue(f"the key of a {kind} holds no hash")
    state = read_state(kind, values)
    applied = sum(state.apply(record) for record in mine)
    REPEATED.inc(len(mine) - applied)
    return write_state(state) if applied else None


def _letter(entry: Entry, error: Exception) -> bytes:
    """The dead letter of a stream entry. Of errors that are not ours it tells the class: others may quote an id."""
    reason = str(error) if isinstance(error, FeatureRepoError | orjson.JSONDecodeError) else type(error).__name__
    DEAD.inc()
    logger.error("an event went to %s: %s", DEAD_LETTERS, reason)
    given = {name.decode(errors="replace"): value.decode(errors="replace") for name, value in entry.items()}
    return orjson.dumps({"entry": given, "reasons": [reason]})


async def caught_up(redis: Any, streams: list[str]) -> bool:
    """Whether every stream's last entry is checkpointed."""
    pipeline = redis.pipeline(transaction=False)
    for stream in streams:
        pipeline.xrevrange(stream, count=1)
        pipeline.get(checkpoint_key(stream))
    answers = await pipeline.execute()
    pairs = zip(answers[::2], answers[1::2], strict=True)
    return all(not last or last[0][0] == checkpoint for last, checkpoint in pairs)


def _append_log(log: Path, entries: list[Entry]) -> list[bytes]:
    """Appends what can be read and returns the dead letters of the rest."""
    tables, letters = [], []
    try:
        tables.append(_table(entries))
    except _UNUSABLE:  # one by one, then, to find which
        for entry in entries:
            try:
                tables.append(_table([entry]))
            except _UNUSABLE as error:
                letters.append(_letter(entry, error))
    if tables:
        append(log, pa.concat_tables(tables))
    return letters


def _table(entries: list[Entry]) -> pa.Table:
    events, numbers, arrived = zip(*map(_event, entries), strict=True)
    return log_table(EventBatch.from_rows(events), np.array(numbers, np.int64), np.array(arrived, np.int64))


async def _main(settings: FeatureSettings, log: Path | None, metrics_port: int) -> None:
    if metrics_port:
        start_http_server(metrics_port, addr="127.0.0.1")
    redis = aioredis.Redis.from_url(settings.redis_url)
    worker = Worker(redis, log)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, worker.stop)
    logger.info("worker started")
    try:
        await worker.run()
    finally:
        await redis.aclose()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--log", type=Path, default=None, help="event log folder to append to")
    parser.add_argument("--metrics-port", type=int, default=0, help="Prometheus port; 0 for none")
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    asyncio.run(_main(FeatureSettings(), given.log, given.metrics_port))
