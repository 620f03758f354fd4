"""The streaming worker: applies records to the online store and appends the event log.

    python -m feature_repo.streaming.worker --log DIR

A worker owns whole partitions, by leases that it shares out with the others (`leases.py`). It reads a micro-batch,
folds it into the entities' state, writes each entity in one HSET that carries the last applied sequence number, and
only then moves its checkpoint: a crash in between means that records come again and are skipped.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import signal
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import hiredis

from feature_repo.errors import StateOvertaken, StoreUnavailable
from feature_repo.event_log import log_days
from feature_repo.freshness import export_freshness
from feature_repo.materialization_ledger import AWAY
from feature_repo.online.store import client_at, store_of
from feature_repo.settings import FEAST_PROJECT, FeatureSettings
from feature_repo.streaming import metrics
from feature_repo.streaming.dead_letters import bury, entry_letter, record_letter
from feature_repo.streaming.fold import Grouped, fold
from feature_repo.streaming.health import serve_health
from feature_repo.streaming.keys import (
    COMPLETE_KEY,
    LOG_STREAM,
    PARTITIONS,
    checkpoint_key,
    partition_stream,
)
from feature_repo.streaming.leases import LEASE_S, RENEWALS, Leases
from feature_repo.streaming.log_writer import append_entries
from feature_repo.streaming.records import read_records
from feature_repo.streaming.state_store import StateStore, sound
from feature_repo.streaming.stream_lag import export_stream_lag

_BATCH = 4000
_BLOCK_MS = 200
_LOG_FLUSH_S = 5.0
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.1, 5.0
# In which a partition that comes back, or comes to be ours, is noticed.
_NOT_OURS_S = 0.05
# Three leases' time: longer than a Redis that hangs keeps the worker waiting.
_STANDSTILL_S = 3 * LEASE_S

# What is tried again.
_AWAY = (*AWAY, StoreUnavailable)

# Entry id, and fields and values in turn, as XREAD returns them.
Entry = tuple[bytes, list[bytes]]

logger = logging.getLogger(__name__)


class Worker:
    """Applies the records of the partitions that it owns.

    Args:
        redis: an asynchronous Redis client that returns bytes.
        log: folder of the event log, the same for all workers that are given one; one of them writes it. None leaves
            the log to others.
        partitions: the partitions that it may own.
        project: the Feast project.
        lease_s: how long others wait before they take over what a dead worker owned.
    """

    def __init__(
        self,
        redis: Any,
        log: Path | None,
        partitions: tuple[int, ...] = tuple(range(PARTITIONS)),
        project: str = FEAST_PROJECT,
        lease_s: float = LEASE_S,
    ) -> None:
        self._redis = redis
        self._store = store_of(redis)
        self._states = StateStore(self._store)
        # A read that waits for events has a connection of its own: whatever came after it would wait too.
        self._readers = {stream: store_of(redis) for stream in (LOG_STREAM, *map(partition_stream, partitions))}
        self._log = log
        self._partitions = partitions
        self._project = project
        self._lease_s = lease_s
        # None where nobody shares: see `drain`.
        self._leases: Leases | None = None
        self._last_turn = time.monotonic()
        # Partitions whose progress is among the metrics.
        self._told: set[int] = set()
        self._stopping = asyncio.Event()
        self._was_complete = False
        self._waiting = False

    def stop(self) -> None:
        """Asks the worker to finish what it holds and end."""
        self._stopping.set()

    def alive(self) -> bool:
        """Whether its loop turns, whatever Redis does; to be asked while it runs."""
        return time.monotonic() - self._last_turn < _STANDSTILL_S

    async def run(self) -> None:
        """Works until `stop` on what it can get leases of, gives them back, and closes its connections."""
        logs = [] if self._log is None else [LOG_STREAM]
        self._leases = Leases(self._redis, [*map(partition_stream, self._partitions)], logs, self._lease_s)
        keeping = asyncio.create_task(self._keep(self._leases))
        try:
            async with asyncio.TaskGroup() as tasks:
                for partition in self._partitions:
                    tasks.create_task(self._repeat(partial(self._apply_next, partition)))
                if self._log is not None:
                    tasks.create_task(self._log_loop(self._log))
        finally:
            keeping.cancel()
            with contextlib.suppress(*_AWAY):
                await self._leases.leave()
            await self.close()

    async def drain(self) -> None:
        """Applies everything that is in the streams now, in this task, as if no other worker ran, and returns."""
        for partition in self._partitions:
            while await self._apply_next(partition, block_ms=None):
                pass

    async def close(self) -> None:
        """Closes the connections that are the worker's own."""
        for store in (self._store, *self._readers.values()):
            await store.close()

    async def _repeat(self, step: Callable[[], Awaitable[object]]) -> None:
        """Takes the step until `stop`; one that Redis or the disk fails is taken again, after longer and longer."""
        wait = 0.0
        while not self._stopping.is_set():
            try:
                await step()
            except _AWAY as error:
                if not wait:
                    logger.warning("the worker tries again until it succeeds: %r", error)
                metrics.RETRIES.inc()
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

    async def _keep(self, leases: Leases) -> None:
        """Renews the leases again and again; what cannot be renewed is lost to others in the end."""
        while True:
            with contextlib.suppress(*_AWAY):
                async with asyncio.timeout(self._lease_s):
                    await leases.renew()
            metrics.PARTITIONS_OWNED.set(len(leases.owned - {LOG_STREAM}))
            self._last_turn = time.monotonic()
            await asyncio.sleep(self._lease_s / RENEWALS)

    async def _owns(self, stream: str) -> bool:
        """Whether a stream is this worker's to read; between two batches is the time to give it up."""
        if self._leases is None:
            return True
        if stream in self._leases.surplus:
            await self._leases.release(stream)
        return stream in self._leases.owned

    async def _apply_next(self, partition: int, block_ms: int | None = _BLOCK_MS) -> bool:
        """Applies the next micro-batch of a partition; returns whether there was one."""
        stream = partition_stream(partition)
        if not await self._owns(stream):
            if partition in self._told:
                self._told.remove(partition)
                metrics.forget_progress(partition)
            await self._pause(_NOT_OURS_S)
            return False
        if not await self._store_is_complete():
            await self._pause(_FIRST_WAIT_S)
            return False
        entries = await self._next(stream, block_ms)
        if entries:
            try:
                await self.apply(partition, entries)
            except StateOvertaken as overtaken:
                # By a worker that was paused and goes on, or by the one that took over while this one was.
                logger.warning("partition %d is read again: %s", partition, overtaken)
                return True
            await self._finish(stream, entries[-1][0])
        self._told.add(partition)
        metrics.observe_progress(partition, entries[-1][0] if entries else None, full=len(entries) == _BATCH)
        return bool(entries)

    async def _store_is_complete(self) -> bool:
        """Whether the store holds what was applied before; a store that lost its data waits for a rebuild.

        Folding on would leave windows that look whole and are not. The events wait in their streams meanwhile.
        """
        complete = bool(await self._redis.exists(COMPLETE_KEY))
        if not complete and not self._was_complete and not (self._log is not None and log_days(self._log)):
            await self._redis.set(COMPLETE_KEY, b"1")
            complete = True
        if not complete and not self._waiting:
            logger.error("Redis lost the features: the worker waits for `fraud features rebuild`")
        self._was_complete |= complete
        self._waiting = not complete
        metrics.WAITING.set(self._waiting)
        return complete

    async def _log_loop(self, log: Path) -> None:
        async def step() -> None:
            if not await self._owns(LOG_STREAM):
                await self._pause(_NOT_OURS_S)
                return
            # Few large files rather than many small ones, except while there is more than one to write.
            if not await self._log_next(log):
                await self._pause(_LOG_FLUSH_S)

        await self._repeat(step)
        try:
            while await self._owns(LOG_STREAM) and await self._log_next(log):
                continue
        except _AWAY as error:
            logger.warning("the last events stay in Redis, for the next worker to log: %r", error)

    async def _log_next(self, log: Path) -> bool:
        """Appends the next events to the log; returns whether there may be more."""
        entries = await self._next(LOG_STREAM)
        if entries:
            letters = await asyncio.to_thread(append_entries, log, [_fields(entry) for entry in entries])
            await bury(self._redis, letters)
            await self._finish(LOG_STREAM, entries[-1][0])
        return len(entries) == _BATCH

    async def _finish(self, stream: str, last: bytes) -> None:
        if self._leases is None:
            # The checkpoint first: what is trimmed must never be needed again.
            await self._redis.set(checkpoint_key(stream), last)
            await self._redis.xtrim(stream, minid=last, approximate=True)
        elif not await self._leases.advance(stream, last):
            logger.warning("another worker has taken over %s", stream)

    async def _next(self, stream: str, block_ms: int | None = _BLOCK_MS) -> list[Entry]:
        after = await self._redis.get(checkpoint_key(stream)) or b"0"
        waiting = [] if block_ms is None else [b"BLOCK", block_ms]
        command: Any = (b"XREAD", b"COUNT", _BATCH, *waiting, b"STREAMS", stream.encode(), after)
        before, key, rest = hiredis.pack_command(command).rpartition(stream.encode())
        (reply,) = await self._readers[stream].ask([(before, key, rest)])
        entries: list[Entry] = sound(reply)[0][1] if reply else []
        return entries

    async def apply(self, partition: int, entries: Sequence[Entry]) -> None:
        """Folds a micro-batch, in stream order, into the entities' stored state.

        What cannot be folded goes to the dead letters: an entry that is no record, and all records of an entity whose
        stored state cannot be read.

        Raises:
            StateOvertaken: another worker has written some of the states meanwhile; the others are written.
        """
        bodies = [given[1] if given[0] == b"record" else b"" for _, given in entries]
        records, usable = read_records(bodies)
        unread = set(range(len(bodies))) - set(usable.tolist()) if len(usable) < len(bodies) else ()
        letters = [entry_letter(_fields(entries[i]), "it is no record that this version knows") for i in sorted(unread)]
        grouped = Grouped.of(records)
        keys = grouped.keys(self._project)
        stored = await self._states.read(grouped, keys)
        folded = fold(grouped, stored)
        for i in grouped.records_of_broken(folded.broken):
            why = folded.broken[grouped.entity[i]] or ""
            letters.append(record_letter(bodies[usable[grouped.positions[i]]], why))
        overtaken = await self._states.replace(grouped, keys, stored, folded)
        if overtaken:
            metrics.OVERTAKEN.inc(overtaken)
            raise StateOvertaken(f"{overtaken} of {len(keys)} states were written by another worker meanwhile")
        await bury(self._redis, letters)
        metrics.DEAD.inc(len(letters))
        metrics.APPLIED.labels(partition).inc(folded.applied)
        metrics.REPEATED.inc(len(entries) - len(letters) - folded.applied)
        if len(records):
            metrics.SEQUENCE.labels(partition).set(int(records["stream_seq"].max()))


def _fields(entry: Entry) -> dict[bytes, bytes]:
    given = entry[1]
    return dict(zip(given[::2], given[1::2], strict=True))


async def caught_up(redis: Any, streams: list[str]) -> bool:
    """Whether every stream's last entry is checkpointed."""
    pipeline = redis.pipeline(transaction=False)
    for stream in streams:
        pipeline.xrevrange(stream, count=1)
        pipeline.get(checkpoint_key(stream))
    answers = await pipeline.execute()
    pairs = zip(answers[::2], answers[1::2], strict=True)
    return all(not last or last[0][0] == checkpoint for last, checkpoint in pairs)


async def _main(settings: FeatureSettings, log: Path | None, metrics_host: str, metrics_port: int) -> None:
    redis = client_at(settings.redis_url, settings.redis_type)
    worker = Worker(redis, log)
    if metrics_port:
        export_freshness(settings.redis_url, settings.redis_type)
        export_stream_lag(settings.redis_url, settings.redis_type)
        serve_health(metrics_host, metrics_port, worker.alive)
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
    parser.add_argument("--metrics-host", default="127.0.0.1", help="address for metrics and health")
    parser.add_argument("--metrics-port", type=int, default=0, help="port for metrics and health; 0 for none")
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    asyncio.run(_main(FeatureSettings(), given.log, given.metrics_host, given.metrics_port))
