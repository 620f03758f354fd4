"""Publishes decisions to Redis without holding the answer; while Redis is away they wait in a bounded file.

So they do while the stream is full: the sink of the decision log trims it below what it has written, and nobody else
may, or decisions would go missing in the log.

Records are encoded here, behind the answer. Delivery is at least once: a reader tells two copies apart by
`decision_id`. A queue that is full, a spool that has reached its size, or a disk that takes no more loses decisions;
`fraud_decisions_lost_total` counts them.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, islice
from pathlib import Path
from typing import Any, Protocol

import redis.asyncio as aioredis
from prometheus_client import Counter
from redis.exceptions import RedisClusterException, RedisError

from feature_repo.settings import RedisType

STREAM = "fraud:decisions"
FIELD = "decision"
# A decision takes about 12 kB: without its sink the stream must not take the memory of the online store.
_STREAM_LENGTH = 100_000
_QUEUE = 50_000
_BATCH = 256
_ENCODED_AT_ONCE = 16
_TIMEOUT_S = 1.0
_RETRY_S = 1.0
_POLL_S = 0.2

LOST = Counter("fraud_decisions_lost", "Decisions that neither Redis nor the spool could take.")
log = logging.getLogger("fraud")


def spool_file(revision: str = "") -> str:
    """Name of a revision's spool."""
    return f"decisions-{revision}.jsonl" if revision else "decisions.jsonl"


class Records(Protocol):
    """Some decisions, to be encoded later."""

    def __len__(self) -> int: ...

    def encode(self) -> Iterable[bytes]:
        """The records as JSON without line breaks, in order."""


class DecisionLog:
    """The way from the transformer to the decision stream.

    Args:
        url: Redis address.
        spool_dir: folder of the spool file; created when missing.
        spool_max_bytes: size at which the spool takes no more.
        revision: part of the spool's name, for on a laptop revisions share the folder and each rewrites its file.
        redis_type: whether the address is one server or of a cluster.
    """

    def __init__(
        self, url: str, spool_dir: Path, spool_max_bytes: int, revision: str = "", redis_type: RedisType = "redis"
    ) -> None:
        spool_dir.mkdir(parents=True, exist_ok=True)
        self._spool = spool_dir / spool_file(revision)
        self._spool_max_bytes = spool_max_bytes
        self._url = url
        self._client = aioredis.RedisCluster if redis_type == "redis_cluster" else aioredis.Redis
        self._queue: asyncio.Queue[Records] = asyncio.Queue()
        self._queued = 0  # decisions in it
        self._encoding: Iterator[bytes] = iter(())
        self._stopping = asyncio.Event()
        self._spooling = False
        self._full = False
        self._disk_fails = False
        self._drained = 0  # bytes of the spool that Redis has already
        if self._spool.exists():
            # A crash may have cut the last line short.
            os.truncate(self._spool, self._spool.read_bytes().rfind(b"\n") + 1)

    def publish(self, decisions: Records) -> None:
        """Queues decisions, none of them encoded yet; never waits."""
        if self._queued + len(decisions) > _QUEUE:
            LOST.inc(len(decisions))
            return
        self._queued += len(decisions)
        self._queue.put_nowait(decisions)

    def stop(self) -> None:
        """Asks `run` to deliver what is queued and end."""
        self._stopping.set()

    async def run(self) -> None:
        """Delivers until stopped: what was spooled goes first, so that the stream keeps its order."""
        client: Any = self._client.from_url(self._url, socket_timeout=_TIMEOUT_S, socket_connect_timeout=_TIMEOUT_S)
        clock = asyncio.get_running_loop().time
        next_try = clock()
        try:
            while (batch := await self._next_batch()) or not self._stopping.is_set():
                if clock() >= next_try:
                    if await self._drain_spool(client) and await self._send(client, batch):
                        continue
                    next_try = clock() + _RETRY_S
                self._keep(batch)
        finally:
            await client.aclose()

    async def _next_batch(self) -> list[bytes]:
        """The next records, at most `_BATCH`; none when there were none for a while."""
        batch: list[bytes] = []
        while len(batch) < _BATCH:
            records = list(islice(self._encoding, _ENCODED_AT_ONCE))
            batch += records
            if records:
                # Encoding must not hold up the answers to those who came meanwhile.
                await asyncio.sleep(0)
            elif not self._queue.empty():
                self._encoding = self._encoded(self._queue.get_nowait())
            elif batch:
                break
            else:
                try:
                    self._encoding = self._encoded(await asyncio.wait_for(self._queue.get(), _POLL_S))
                except TimeoutError:
                    break
        return batch

    def _encoded(self, decisions: Records) -> Iterator[bytes]:
        self._queued -= len(decisions)
        done = 0
        try:
            for record in decisions.encode():
                yield record
                done += 1
        except Exception:
            # One batch that a defect of ours spoils must not end the delivery of all that follow.
            log.exception("%d decisions could not be recorded", len(decisions) - done)
            LOST.inc(len(decisions) - done)

    async def _drain_spool(self, client: Any) -> bool:
        if not self._spool.exists():
            return True
        try:
            with self._spool.open("rb") as spool:
                spool.seek(self._drained)
                while lines := list(islice(spool, _BATCH)):
                    if not await self._send(client, [line[:-1] for line in lines]):
                        return False
                    self._drained += sum(map(len, lines))
            self._spool.unlink()
        except OSError as error:
            # New decisions need not wait for a file that cannot be read or removed now.
            self._note_disk(error)
            return True
        self._drained = 0
        return True

    async def _send(self, client: Any, records: Sequence[bytes]) -> bool:
        if not records:
            return True
        try:
            if self._full and await client.xlen(STREAM) >= _STREAM_LENGTH:
                return False
            pipeline = client.pipeline(transaction=False)
            for record in records:
                pipeline.xadd(STREAM, {FIELD: record})
            pipeline.xlen(STREAM)
            length = (await pipeline.execute())[-1]
        except (RedisError, RedisClusterException, OSError, TimeoutError) as error:
            self._note_stream(f"Redis is away: {error!r}")
            return False
        self._full = length >= _STREAM_LENGTH
        self._note_stream("the stream is full: does the decision log write?" if self._full else "")
        return True

    def _note_stream(self, problem: str) -> None:
        # One line when decisions begin to go to the spool and one when they no longer do, not one a batch.
        if problem and not self._spooling:
            log.warning("decisions go to the spool, %s", problem)
        elif self._spooling and not problem:
            log.warning("decisions go to Redis again")
        self._spooling = bool(problem)

    def _keep(self, records: Sequence[bytes]) -> None:
        if not records:
            return
        try:
            size = self._spool.stat().st_size if self._spool.exists() else 0
            room = self._spool_max_bytes - size
            lines = [record + b"\n" for record in records]
            taken = [n for n, end in enumerate(accumulate(map(len, lines)), 1) if end <= room]
            fitting = taken[-1] if taken else 0
            self._append(b"".join(lines[:fitting]), size)
        except OSError as error:
            self._note_disk(error)
            fitting = 0
        else:
            self._disk_fails = False
        LOST.inc(len(records) - fitting)

    def _append(self, content: bytes, size: int) -> None:
        """Writes all of `content` behind the spool's `size` bytes, or raises OSError and leaves the spool as it was."""
        try:
            with self._spool.open("ab") as spool:
                spool.write(content)
        except OSError:
            # A torn line would run into the next one.
            if self._spool.is_file():
                os.truncate(self._spool, size)
            raise

    def _note_disk(self, error: OSError) -> None:
        if not self._disk_fails:
            log.warning("the spool of decisions cannot be used: %s", error)
        self._disk_fails = True
