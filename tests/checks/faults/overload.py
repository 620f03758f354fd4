"""Three times what a service can do, open loop: what it takes on is answered in time, and the rest is told."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from pipelines.report import Row
from tests.load import Client, Reply, get, open_loop, percentile, statuses

_OVERLOAD = 3.0
_WORKERS = 8
_MEASURE_S = 3.0
_LEAST_GOODPUT = 0.5


async def overload_rows(name: str, port: int, requests: Sequence[bytes], seconds: float, late_ms: float) -> list[Row]:
    """What one service does.

    Args:
        name: of the service.
        port: where it listens.
        requests: sent in turn; dear ones, so that the client is not what is overloaded.
        seconds: how long.
        late_ms: the longest that what is taken on may take, at the 99th percentile.
    """
    client = Client(port)
    capacity = await _capacity(client, requests)
    health: list[Reply] = []
    watching = asyncio.create_task(_watch(client, health))
    replies = await open_loop(client, requests, _OVERLOAD * capacity, seconds)
    watching.cancel()
    client.close()
    taken = [1000 * reply.seconds for reply in replies if reply.status == 200]
    told = statuses(replies)
    others = len(replies) - told[200] - told[429]
    sick = sum(reply.status != 200 for reply in health)
    p99 = percentile(taken, 0.99)
    share = len(taken) / (capacity * seconds)
    name = f"{name} at {_OVERLOAD:g} times its capacity"
    return [
        Row(f"{name}: capacity", capacity, "requests/s"),
        Row(f"{name}: taken on", told[200]),
        Row(f"{name}: told to come again", told[429], "", "some", told[429] > 0),
        Row(f"{name}: anything else", others, "", "none", others == 0),
        Row(f"{name}: health not answered with 200", sick, "", "none", sick == 0),
        Row(f"{name}: median of what is taken on", percentile(taken, 0.5), "ms"),
        Row(f"{name}: p99 of what is taken on", p99, "ms", f"at most {late_ms:g} ms", p99 <= late_ms),
        Row(f"{name}: of its capacity still used", share, "share", f"{_LEAST_GOODPUT:.0%}", share >= _LEAST_GOODPUT),
    ]


async def _capacity(client: Client, requests: Sequence[bytes]) -> float:
    """Requests a second of callers who wait for each answer."""
    clock = asyncio.get_running_loop().time
    end, done = clock() + _MEASURE_S, 0

    async def call(worker: int) -> None:
        nonlocal done
        while clock() < end:
            done += (await client.send(requests[(done + worker) % len(requests)])).status == 200

    await asyncio.gather(*(call(worker) for worker in range(_WORKERS)))
    return done / _MEASURE_S


async def _watch(client: Client, health: list[Reply]) -> None:
    while True:
        health.append(await client.send(get("/v2/health/ready")))
        await asyncio.sleep(0.1)
