"""A worker that is killed anywhere neither loses nor double-counts an event.

A process that has imported everything forks a worker for each life. The worker counts the lines that it executes in the
streaming code and kills itself, with SIGKILL, at one drawn at random: between reading and folding, folding and writing,
writing and checkpointing, in the middle of a file of the log.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import redis
import redis.asyncio as aioredis

from feature_repo.event_batch import EventBatch
from feature_repo.event_log import read_log
from feature_repo.pseudonyms import Pseudonymiser
from feature_repo.streaming.keys import LOG_STREAM, PARTITIONS, partition_stream
from feature_repo.streaming.publisher import Publisher
from feature_repo.streaming.rebuild import rebuild
from feature_repo.streaming.worker import caught_up
from tests.conftest import ROOT

LIVES = 60
STREAMS = [LOG_STREAM, *(partition_stream(p) for p in range(PARTITIONS))]
# Lines of streaming code that a life may execute: some die before their first batch, some late.
LONGEST_LIFE = 3000

NURSERY = """
import asyncio, os, signal, sys
from pathlib import Path
import redis.asyncio as aioredis
from feature_repo.streaming import log_writer, worker

url, log = sys.argv[1], Path(sys.argv[2])
worker._BATCH, worker._BLOCK_MS, worker._LOG_FLUSH_S, worker._NOT_OURS_S = 40, 10, 0.01, 0.001
HERE = (str(Path(worker.__file__).parent), str(Path(worker.__file__).parents[1] / "event_log.py"),
        str(Path(worker.__file__).parents[1] / "redis_pipeline.py"))

def live(lines):
    left = lines
    def trace(frame, event, argument):
        nonlocal left
        if not frame.f_code.co_filename.startswith(HERE):
            return None
        left -= event == "line"
        if left <= 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return trace
    import threading
    threading.settrace(trace)
    sys.settrace(trace)
    async def main():
        async with aioredis.Redis.from_url(url) as client:
            # What a killed one owned is free before the next is there.
            await worker.Worker(client, log, lease_s=0.01).run()
    asyncio.run(main())

for line in sys.stdin:
    child = os.fork()
    if child == 0:
        live(int(line))
        os._exit(0)
    _, status = os.waitpid(child, 0)
    print(os.WTERMSIG(status), flush=True)
"""


def events(rng: np.random.Generator, start: int, n: int) -> list[dict[str, object]]:
    """Trips of few riders and drivers, so that a batch holds an entity many times."""
    made = []
    for i in range(start, start + n):
        rider, driver = rng.integers(0, 12, 2)
        made.append(
            {
                "event_id": f"e{i}",
                "event_type": "refund_claimed" if rng.random() < 0.3 else "trip_cancelled",
                "event_timestamp": 1_770_000_000_000_000 + int(rng.integers(0, 3 * 86_400_000_000)),
                "rider_id": f"rider-{rider}",
                "driver_id": f"driver-{driver}",
                "device_id": f"phone-{rider}",
                "city": "tehran",
                "trip_id": f"t{i}",
            }
        )
        made[-1] |= (
            {"amount": int(rng.integers(1, 9999)), "reason": "other"}
            if made[-1]["event_type"] == "refund_claimed"
            else {"cancelled_by": "rider", "seconds_to_cancel": 30}
        )
    return made


@pytest.mark.slow
def test_sixty_killed_workers_lose_nothing_and_count_nothing_twice(
    redis_url: str, pseudonymiser: Pseudonymiser, tmp_path: Path
) -> None:
    rng = np.random.default_rng(5)
    log = tmp_path / "log"
    command = [sys.executable, "-W", "ignore", "-c", NURSERY, redis_url, str(log)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=ROOT, env=environment, **pipes) as nursery:  # type: ignore[call-overload]
        published, left_undone = 0, 0
        for life in range(LIVES):
            published += publish(redis_url, pseudonymiser, events(rng, published, 40))
            lines = int(rng.integers(1, LONGEST_LIFE))
            print(lines, file=nursery.stdin, flush=True)
            assert int(nursery.stdout.readline()) == signal.SIGKILL, life
            left_undone += not asyncio.run(all_done(redis_url))
        nursery.stdin.close()
        nursery.wait(30)
    assert left_undone > LIVES / 3, "most workers were killed when there was nothing to do"
    state = finished(redis_url, log)
    table = read_log(log)
    assert sorted(table["event_id"].to_pylist()) == sorted(f"e{i}" for i in range(published))
    with redis.Redis.from_url(redis_url) as client:
        client.flushall()
        rebuild(log, client, "fraud")
        assert entities(client) == state
    assert len(state) > 12 * 3


def publish(redis_url: str, pseudonymiser: Pseudonymiser, rows: list[dict[str, object]]) -> int:
    async def run() -> None:
        async with aioredis.Redis.from_url(redis_url) as client:
            arrived = np.full(len(rows), 1_770_000_000_000_000 + 3 * 86_400_000_000)
            published = await Publisher(client, pseudonymiser).publish(EventBatch.from_rows(rows), arrived)
            assert published.refused == []

    asyncio.run(run())
    return len(rows)


async def all_done(redis_url: str) -> bool:
    async with aioredis.Redis.from_url(redis_url) as client:
        return await caught_up(client, STREAMS)


def finished(redis_url: str, log: Path) -> dict[bytes, dict[bytes, bytes]]:
    """What the store holds once a worker has been left to finish."""
    from feature_repo.streaming.worker import Worker

    async def run() -> None:
        async with aioredis.Redis.from_url(redis_url) as client:
            worker = Worker(client, log)
            task = asyncio.create_task(worker.run())
            async with asyncio.timeout(60):
                while not await caught_up(client, STREAMS):
                    await asyncio.sleep(0.05)
            worker.stop()
            await task

    asyncio.run(run())
    with redis.Redis.from_url(redis_url) as client:
        return entities(client)


def entities(client: redis.Redis) -> dict[bytes, dict[bytes, bytes]]:
    return {key: client.hgetall(key) for key in client.keys("*") if client.type(key) == b"hash"}
