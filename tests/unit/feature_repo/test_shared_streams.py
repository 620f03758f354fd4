"""Workers that are killed and stopped anywhere, while others share the streams with them, lose and double nothing.

As in `test_crash.py`, a worker counts the lines that it executes, here those between what it reads and what it writes;
at one drawn at random it kills itself, or stops itself, like a machine that hangs, and is continued long after its
leases have expired.
"""

from __future__ import annotations

import asyncio
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import redis.asyncio as aioredis

from feature_repo.pseudonyms import Pseudonymiser
from feature_repo.streaming.worker import caught_up
from tests.conftest import ROOT
from tests.unit.feature_repo.test_crash import STREAMS, events, publish
from tests.unit.feature_repo.test_leases import assert_undisturbed

# How often a worker is stopped, and how often killed, before all are left to finish.
STOPS, KILLS = 8, 4
# Few, so that a round of publishing meets workers that are stopped.
EVENTS_AT_ONCE = 30

NURSERY = """
import asyncio, os, random, select, signal, sys, time
from pathlib import Path
import redis.asyncio as aioredis
from feature_repo.streaming import log_writer, worker

url, log, stops, kills = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
LEASE_S, WORKERS = 0.25, 3
worker._BATCH, worker._BLOCK_MS, worker._LOG_FLUSH_S, worker._NOT_OURS_S = 40, 10, 0.01, 0.01
HERE = tuple(str(Path(worker.__file__).parent / name) for name in ("fold.py", "state_store.py", "log_writer.py"))
draw = random.Random(7)

def live(number, lines):
    left = lines
    def trace(frame, event, argument):
        nonlocal left
        if not frame.f_code.co_filename.startswith(HERE):
            return None
        left -= event == "line"
        if left == 0:
            os.kill(os.getpid(), number)
        return trace
    if number:
        sys.settrace(trace)
    async def main():
        async with aioredis.Redis.from_url(url) as client:
            one = worker.Worker(client, log, lease_s=LEASE_S)
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, one.stop)
            await one.run()
    asyncio.run(main())

def begin():
    fatal = [signal.SIGSTOP] * stops + [signal.SIGKILL] * kills
    number, lines = (draw.choice(fatal), draw.randint(1, 1500)) if fatal else (0, 0)
    child = os.fork()
    if child == 0:
        live(number, lines)
        os._exit(0)
    return child

alive, stopped, told = {begin() for _ in range(WORKERS)}, {}, False
while not select.select([sys.stdin], [], [], 0.01)[0]:
    child, status = os.waitpid(-1, os.WUNTRACED | os.WNOHANG)
    if child and os.WIFSTOPPED(status):
        stopped[child] = time.monotonic() + 3 * LEASE_S
        stops = max(0, stops - 1)
    elif child:
        alive.remove(child)
        if status:
            assert os.WTERMSIG(status) == signal.SIGKILL, status
            kills = max(0, kills - 1)
            alive.add(begin())
    for one in [one for one, until in stopped.items() if until < time.monotonic()]:
        # It goes on where it stood, then ends; another takes its place.
        del stopped[one]
        os.kill(one, signal.SIGTERM)
        os.kill(one, signal.SIGCONT)
        alive.add(begin())
    if not (told or stops or kills or stopped):
        told = True
        print("left alone", flush=True)
while alive:
    for one in list(alive):
        # One may still have its stop before it.
        os.kill(one, signal.SIGTERM)
        os.kill(one, signal.SIGCONT)
        child, status = os.waitpid(one, os.WNOHANG)
        if child:
            alive.remove(one)
            print(os.waitstatus_to_exitcode(status), flush=True)
    time.sleep(0.05)
"""


@pytest.mark.slow
def test_stopped_and_killed_workers_that_share_the_streams_leave_what_an_undisturbed_one_does(
    redis_url: str, pseudonymiser: Pseudonymiser, tmp_path: Path
) -> None:
    rng = np.random.default_rng(9)
    log = tmp_path / "log"
    command = [sys.executable, "-W", "ignore", "-c", NURSERY, redis_url, str(log), str(STOPS), str(KILLS)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    published = 0
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as nursery:
        assert nursery.stdin is not None
        assert nursery.stdout is not None
        while not select.select([nursery.stdout], [], [], 0)[0]:
            published += publish(redis_url, pseudonymiser, events(rng, published, EVENTS_AT_ONCE))
            time.sleep(0.1)
        assert nursery.stdout.readline() == "left alone\n"
        asyncio.run(finished(redis_url))
        nursery.stdin.close()
        exits = nursery.stdout.read().split()
    # One that was to be killed may meet its end at the very last.
    assert "0" in exits
    assert set(exits) <= {"0", str(-signal.SIGKILL)}
    assert published > (STOPS + KILLS) * EVENTS_AT_ONCE
    assert_undisturbed(redis_url, log, published)


async def finished(redis_url: str) -> None:
    async with aioredis.Redis.from_url(redis_url) as client, asyncio.timeout(60):
        while not await caught_up(client, STREAMS):
            await asyncio.sleep(0.05)
