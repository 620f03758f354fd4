"""Takes the decision stream to the log's files: every decision once it is there, whatever is killed meanwhile.

A consumer group keeps what was read and not yet acknowledged. An entry is acknowledged when its file is on the disk; of
those that come again after a crash, the ones that a file holds are passed over. A transformer that was not sure of its
delivery sends a decision twice, as two entries: readers tell them by `decision_id`. One sink writes to a log.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from pathlib import Path
from typing import Any

from prometheus_client import Counter, Gauge
from redis.exceptions import RedisClusterException, RedisError, ResponseError

from inference_services.decision_log.files import Entry, append, written
from inference_services.transformer.decisions import FIELD, STREAM

GROUP = CONSUMER = "decision-log"
# Redis serves nobody else while it answers: 128 records are 1.5 MB.
_READ = 128
FILE_ROWS = 4_096
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.1, 5.0
_TROUBLE = (RedisError, RedisClusterException, OSError)

LOGGED = Counter("fraud_decision_log_records", "Decisions written to the log.")
UNREADABLE = Counter("fraud_decision_log_unreadable", "Entries kept in the log that are no decisions.")
RETRIES = Counter("fraud_decision_log_retries", "Steps that Redis or the disk failed, to be taken again.")
LAG = Gauge("fraud_decision_log_lag_seconds", "Since when the log may lack decisions that are in the stream.")

log = logging.getLogger("fraud.decision_log")


class Sink:
    """Writes the decision log until stopped.

    Args:
        redis: an asynchronous Redis client that returns bytes.
        folder: the log.
        flush_s: pause while fewer decisions wait than fill a file, seconds.
        keep: about how many entries the stream keeps once they are written.
    """

    def __init__(self, redis: Any, folder: Path, *, flush_s: float, keep: int) -> None:
        self._redis = redis
        self._folder = folder
        self._flush_s = flush_s
        self._keep = keep
        self._stopping = asyncio.Event()
        # Where reading goes on: after an id among what this consumer was given before, or ">" for what is new.
        self._after = "0"
        self._held: list[Entry] = []
        self._whole_at = time.time()
        LAG.set_function(lambda: time.time() - self._whole_at)

    def stop(self) -> None:
        """Asks `run` to write what is in the stream and end."""
        self._stopping.set()

    async def run(self) -> None:
        """Writes until stopped; what Redis or the disk fails is tried again, after longer and longer."""
        wait = 0.0
        while True:
            ending = self._stopping.is_set()
            try:
                more = await self.step()
            except _TROUBLE as error:
                RETRIES.inc()
                if not wait:
                    log.warning("the decision log cannot go on, and tries again: %r", error)
                if ending:
                    log.warning("the last decisions stay in the stream, for the next sink")
                    return
                wait = min(_LONGEST_WAIT_S, 2 * wait or _FIRST_WAIT_S)
                await self._pause(wait)
                continue
            if wait:
                log.warning("the decision log goes on")
            wait = 0.0
            if ending and not more:
                return
            if not more:
                await self._pause(self._flush_s)

    async def step(self) -> bool:
        """Writes the next file; returns whether there may be more.

        Raises:
            RedisError, OSError: Redis or the disk failed; nothing is lost, and the step can be taken again.
        """
        looked_at = time.time()
        more = await self._fill()
        if self._held:
            unreadable = await asyncio.to_thread(append, self._folder, self._held)
            ids = [stream_id for stream_id, _ in self._held]
            LOGGED.inc(len(ids) - unreadable)
            UNREADABLE.inc(unreadable)
            # They are on the disk: nothing that follows may write them again.
            self._held = []
            await self._redis.xack(STREAM, GROUP, *ids)
            await self._trim(ids[-1])
        if not more:
            self._whole_at = looked_at
        return more

    async def _fill(self) -> bool:
        """Takes entries until there are enough for a file, or no more."""
        while len(self._held) < FILE_ROWS:
            entries = await self._read()
            again = self._after != ">"
            if entries and again:
                self._after = entries[-1][0]
                known = await asyncio.to_thread(written, self._folder, [stream_id for stream_id, _ in entries])
                if known:
                    await self._redis.xack(STREAM, GROUP, *known)
                entries = [entry for entry in entries if entry[0] not in known]
            elif again:
                self._after = ">"
                continue
            elif not entries:
                return False
            self._held += entries
        return True

    async def _read(self) -> list[Entry]:
        try:
            answer = await self._redis.xreadgroup(GROUP, CONSUMER, {STREAM: self._after}, count=_READ)
        except ResponseError as error:
            if "NOGROUP" not in str(error):
                raise
            # A new Redis, or one that has lost its data; what it holds is all there is.
            await self._create_group()
            return []
        entries = answer[0][1] if answer else []
        # An entry that was trimmed while it was not acknowledged comes without fields.
        return [(entry_id.decode(), (fields or {}).get(FIELD.encode(), b"")) for entry_id, fields in entries]

    async def _create_group(self) -> None:
        with contextlib.suppress(ResponseError):  # BUSYGROUP: it is there by now
            await self._redis.xgroup_create(STREAM, GROUP, id="0", mkstream=True)

    async def _trim(self, last: str) -> None:
        """Drops entries from the stream that are written, `last` being the last of those, and older than most readers.

        By time, which Redis can trim by without counting: as if entries had come evenly.
        """
        info = await self._redis.xinfo_stream(STREAM)
        surplus, first = info["length"] - self._keep, info["first-entry"]
        if surplus > 0 and first:
            since, until = _milliseconds(first[0].decode()), _milliseconds(last)
            oldest = since + (until - since) * surplus // info["length"]
            await self._redis.xtrim(STREAM, minid=min(oldest, until), approximate=True)

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()


def _milliseconds(stream_id: str) -> int:
    return int(stream_id.partition("-")[0])
