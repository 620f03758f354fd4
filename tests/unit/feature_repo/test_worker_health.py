"""What the worker tells an operator: that it lives, and how much waits."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import httpx
import numpy as np
import redis
import redis.asyncio as aioredis
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from feature_repo.event_batch import EventBatch
from feature_repo.pseudonyms import Pseudonymiser
from feature_repo.streaming.health import serve_health
from feature_repo.streaming.keys import DEAD_LETTERS, PARTITIONS, partition_stream
from feature_repo.streaming.publisher import Publisher
from feature_repo.streaming.stream_lag import export_stream_lag
from feature_repo.streaming.worker import Worker
from simulators.local_services import LocalProcess, RedisServer, free_port
from tests.unit.feature_repo.streams import drain
from tests.unit.feature_repo.test_crash import events

ARRIVED_US = 1_770_000_000_000_000 + 3 * 86_400_000_000


async def publish(url: str, pseudonymiser: Pseudonymiser, n: int, start: int = 0) -> None:
    async with aioredis.Redis.from_url(url) as client:
        batch = EventBatch.from_rows(events(np.random.default_rng(3), start, n))
        await Publisher(client, pseudonymiser).publish(batch, np.full(n, ARRIVED_US))


def waiting(registry: CollectorRegistry) -> tuple[list[float | None], float | None]:
    partitions = [
        registry.get_sample_value("fraud_stream_lag_records", {"partition": str(p)}) for p in range(PARTITIONS)
    ]
    return partitions, registry.get_sample_value("fraud_event_log_lag_events")


async def test_what_waits_is_counted_to_the_record(redis_url: str, pseudonymiser: Pseudonymiser) -> None:
    registry = CollectorRegistry()
    export_stream_lag(redis_url, "redis", registry)
    assert waiting(registry) == ([0.0] * PARTITIONS, 0.0)
    await publish(redis_url, pseudonymiser, 30)
    with redis.Redis.from_url(redis_url) as store:
        lengths = [store.xlen(partition_stream(p)) for p in range(PARTITIONS)]
    assert sum(lengths) == 30 * 4
    assert waiting(registry) == (lengths, 30.0)
    async with aioredis.Redis.from_url(redis_url) as client:
        await drain(client)
    # Nobody has written the log, and a stream keeps some of what is applied.
    assert waiting(registry) == ([0.0] * PARTITIONS, 30.0)
    await publish(redis_url, pseudonymiser, 1, start=30)
    assert sum(filter(None, waiting(registry)[0])) == 4


def test_dead_letters_are_counted(redis_url: str) -> None:
    registry = CollectorRegistry()
    export_stream_lag(redis_url, "redis", registry)
    assert registry.get_sample_value("fraud_dead_letters") == 0
    with redis.Redis.from_url(redis_url) as store:
        store.xadd(DEAD_LETTERS, {"letter": "{}"})
    assert registry.get_sample_value("fraud_dead_letters") == 1


def test_a_redis_that_is_away_is_not_told_as_nothing_waiting() -> None:
    registry = CollectorRegistry()
    export_stream_lag(f"redis://127.0.0.1:{free_port()}", "redis", registry)
    assert waiting(registry) == ([None] * PARTITIONS, None)


def sample(text: str, name: str) -> list[float]:
    return [s.value for family in text_string_to_metric_families(text) for s in family.samples if s.name == name]


async def test_a_worker_tells_its_health_on_the_address_it_was_given(
    redis_server: RedisServer, redis_url: str, pseudonymiser: Pseudonymiser, tmp_path: Path
) -> None:
    port = free_port()
    command = [sys.executable, "-m", "feature_repo.streaming.worker", "--log", str(tmp_path / "log")]
    command += ["--metrics-host", "127.0.0.2", "--metrics-port", str(port)]
    url = f"http://127.0.0.2:{port}"
    with LocalProcess(command, tmp_path / "worker.log", {"FRAUD_FEATURES_REDIS_URL": redis_url}) as worker:
        worker.wait_until(lambda: status_of(f"{url}/healthz") == 200, "the worker")
        await publish(redis_url, pseudonymiser, 20)
        worker.wait_until(
            lambda: sample(scraped(url), "fraud_stream_lag_records") == [0.0] * PARTITIONS, "the features"
        )
        assert sample(scraped(url), "fraud_worker_partitions") == [PARTITIONS]
        os.kill(redis_server.pid, signal.SIGSTOP)
        try:
            # A worker that waits for Redis is well: to start it again would not help.
            assert status_of(f"{url}/healthz") == 200
        finally:
            os.kill(redis_server.pid, signal.SIGCONT)
    with redis.Redis.from_url(redis_url) as store:
        assert not store.keys("{fraud}:lease:*"), "it has not given its partitions back"


def status_of(url: str) -> int:
    try:
        return httpx.get(url, timeout=10).status_code
    except httpx.TransportError:
        return 0


def scraped(url: str) -> str:
    return httpx.get(f"{url}/metrics", timeout=10).text


async def test_a_worker_that_stands_still_is_not_well(redis_url: str) -> None:
    async with aioredis.Redis.from_url(redis_url) as client:
        worker = Worker(client, None)
        port = free_port()
        serve_health("127.0.0.1", port, worker.alive)
        assert status_of(f"http://127.0.0.1:{port}/healthz") == 200
        worker._last_turn -= 60
        assert status_of(f"http://127.0.0.1:{port}/healthz") == 503
        await worker.close()
