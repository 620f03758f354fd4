"""Leases on a real Redis: every stream has one owner, and whoever dies, is paused or ends makes room for the others."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import redis
import redis.asyncio as aioredis
from prometheus_client import REGISTRY

from feature_repo.event_batch import EventBatch
from feature_repo.event_log import read_log
from feature_repo.pseudonyms import Pseudonymiser
from feature_repo.streaming import worker as worker_module
from feature_repo.streaming.keys import LOG_STREAM, PARTITIONS, checkpoint_key, lease_key, partition_stream
from feature_repo.streaming.leases import Leases
from feature_repo.streaming.metrics import OVERTAKEN, forget_progress
from feature_repo.streaming.publisher import Publisher
from feature_repo.streaming.rebuild import rebuild
from feature_repo.streaming.worker import Worker, caught_up
from tests.unit.feature_repo.test_crash import entities, events

SHARED = [partition_stream(p) for p in range(PARTITIONS)]
STREAMS = [LOG_STREAM, *SHARED]
ARRIVED_US = 1_770_000_000_000_000 + 3 * 86_400_000_000
BRIEF_S = 0.2


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[aioredis.Redis]:
    connected = aioredis.Redis.from_url(redis_url)
    yield connected
    await connected.aclose()


def leases(client: aioredis.Redis, lease_s: float = 30.0) -> Leases:
    return Leases(client, SHARED, [LOG_STREAM], lease_s)


async def settle(workers: list[Leases]) -> None:
    """A few rounds of renewals, in which each gives up its surplus as between two batches."""
    for _ in range(3):
        for one in workers:
            await one.renew()
            for stream in list(one.surplus):
                await one.release(stream)


def shares(workers: list[Leases]) -> list[int]:
    """How many partitions each has; one that has two owners, or a log that has not one, fails."""
    owned = [stream for one in workers for stream in one.owned]
    assert sorted(owned) == sorted(STREAMS)
    return sorted(len(one.owned - {LOG_STREAM}) for one in workers)


async def test_workers_share_evenly_as_they_come_and_go(client: aioredis.Redis) -> None:
    workers = [leases(client)]
    await settle(workers)
    assert shares(workers) == [4]
    for expected in ([2, 2], [1, 1, 2], [1, 1, 1, 1], [0, 1, 1, 1, 1]):
        workers.append(leases(client))
        await settle(workers)
        assert shares(workers) == expected
    for expected in ([1, 1, 1, 1], [1, 1, 2], [2, 2], [4]):
        await workers.pop(0).leave()
        await settle(workers)
        assert shares(workers) == expected


async def test_a_worker_takes_no_more_than_its_share_of_what_is_free(client: aioredis.Redis) -> None:
    first, second = leases(client), leases(client)
    await first.renew()
    await second.renew()
    for stream in SHARED:
        await first.release(stream)
    await second.renew()
    assert len(second.owned) == 2
    await first.renew()
    assert shares([first, second]) == [2, 2]


async def test_what_a_dead_worker_owned_is_taken_over_when_its_leases_expire(client: aioredis.Redis) -> None:
    dead, heir = leases(client, BRIEF_S), leases(client)
    await dead.renew()
    await heir.renew()
    assert not heir.owned
    await asyncio.sleep(2 * BRIEF_S)
    await heir.renew()
    assert shares([heir]) == [4]
    await dead.renew()
    assert not dead.owned


async def test_only_the_owner_moves_a_checkpoint(client: aioredis.Redis) -> None:
    first, second = leases(client, BRIEF_S), leases(client)
    entries = [await client.xadd(SHARED[0], {"record": b"x"}) for _ in range(3)]
    await first.renew()
    assert await first.advance(SHARED[0], entries[1])
    assert not await second.advance(SHARED[0], entries[2])
    await asyncio.sleep(2 * BRIEF_S)
    await second.renew()
    assert await second.advance(SHARED[0], entries[2])
    assert not await first.advance(SHARED[0], entries[0])
    assert SHARED[0] not in first.owned
    assert await client.get(checkpoint_key(SHARED[0])) == entries[2]


class Paused(Worker):
    """A worker that stands still between what it has read and what it writes, for as long as it is told."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.reached, self.goes_on = asyncio.Event(), asyncio.Event()
        replace = self._states.replace

        async def hold(*given: Any) -> int:
            self.reached.set()
            await self.goes_on.wait()
            return await replace(*given)

        self._states.replace = hold  # type: ignore[method-assign]

    async def _keep(self, leases: Leases) -> None:
        """Nobody renews for a process that stands still."""
        await leases.renew()
        await self.goes_on.wait()
        await super()._keep(leases)


async def publish(client: aioredis.Redis, pseudonymiser: Pseudonymiser, rows: list[dict[str, object]]) -> None:
    published = await Publisher(client, pseudonymiser).publish(
        EventBatch.from_rows(rows), np.full(len(rows), ARRIVED_US)
    )
    assert published.refused == []


async def until_caught_up(client: aioredis.Redis) -> None:
    async with asyncio.timeout(60):
        while not await caught_up(client, STREAMS):
            await asyncio.sleep(0.02)


async def test_a_worker_that_outlived_its_leases_writes_over_nothing_of_its_successor_s(
    redis_url: str,
    client: aioredis.Redis,
    pseudonymiser: Pseudonymiser,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two owners read and write the same entities; no update of either is lost."""
    monkeypatch.setattr(worker_module, "_LOG_FLUSH_S", 0.02)
    rng = np.random.default_rng(1)
    await publish(client, pseudonymiser, events(rng, 0, 60))
    paused = Paused(client, tmp_path, lease_s=BRIEF_S)
    first = asyncio.create_task(paused.run())
    async with asyncio.timeout(30):
        await paused.reached.wait()
    await publish(client, pseudonymiser, events(rng, 60, 60))
    successor = Worker(client, tmp_path, lease_s=BRIEF_S)
    second = asyncio.create_task(successor.run())
    await until_caught_up(client)
    before = OVERTAKEN._value.get()
    paused.goes_on.set()
    await publish(client, pseudonymiser, events(rng, 120, 60))
    await until_caught_up(client)
    paused.stop()
    successor.stop()
    await asyncio.gather(first, second)
    assert OVERTAKEN._value.get() > before
    assert_undisturbed(redis_url, tmp_path, 180)


def assert_undisturbed(redis_url: str, log: Path, n: int) -> None:
    """The store holds what one undisturbed pass over the log leaves, and the log every event."""
    assert sorted(read_log(log)["event_id"].to_pylist()) == sorted(f"e{i}" for i in range(n))
    with redis.Redis.from_url(redis_url) as plain:
        state = entities(plain)
        plain.flushall()
        rebuild(log, plain, "fraud")
        assert entities(plain) == state
    assert len(state) > 30


async def test_a_partition_that_was_lost_is_no_longer_told_of(
    client: aioredis.Redis, pseudonymiser: Pseudonymiser
) -> None:
    """Its age would go on rising, and wake somebody, while another worker applies it."""
    told = [("fraud_worker_checkpoint_age_seconds", {"partition": str(p)}) for p in range(PARTITIONS)]
    for partition in range(PARTITIONS):
        forget_progress(partition)  # of another test's worker
    worker = Worker(client, None, lease_s=BRIEF_S)
    task = asyncio.create_task(worker.run())
    await publish(client, pseudonymiser, events(np.random.default_rng(4), 0, 20))
    async with asyncio.timeout(30):
        while not all(REGISTRY.get_sample_value(*one) is not None for one in told):
            await asyncio.sleep(0.01)
        for stream in SHARED:
            await client.set(lease_key(stream), "another worker")
        while any(REGISTRY.get_sample_value(*one) is not None for one in told):
            await asyncio.sleep(0.01)
    worker.stop()
    await task


async def test_workers_at_once_write_each_event_into_one_file_of_the_log(
    redis_url: str,
    client: aioredis.Redis,
    pseudonymiser: Pseudonymiser,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(worker_module, "_LOG_FLUSH_S", 0.02)
    workers = [Worker(client, tmp_path) for _ in range(3)]
    tasks = [asyncio.create_task(one.run()) for one in workers]
    rng = np.random.default_rng(2)
    for start in range(0, 200, 20):
        await publish(client, pseudonymiser, events(rng, start, 20))
        await until_caught_up(client)
        if start == 100:  # the one that writes the log ends, and another goes on
            writer = next(i for i, one in enumerate(workers) if one._leases and LOG_STREAM in one._leases.owned)
            workers[writer].stop()
            await tasks[writer]
    for one in workers:
        one.stop()
    await asyncio.gather(*tasks)
    spans = sorted(tuple(map(int, file.stem.split("-"))) for file in tmp_path.rglob("*.parquet"))
    assert all(one[1] < following[0] for one, following in pairwise(spans))
    assert_undisturbed(redis_url, tmp_path, 200)
