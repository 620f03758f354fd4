"""Online equals offline: what the worker writes and the reader reads, against Feast's point-in-time join."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import orjson
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import redis
import redis.asyncio as aioredis

from feature_repo.datasets import snapshot
from feature_repo.event_batch import EventBatch
from feature_repo.event_log import log_days, read_log
from feature_repo.event_schemas import SCORED_EVENT_TYPES
from feature_repo.feature_names import ACTIVITY_FEATURES
from feature_repo.graph_features import neighbour_history
from feature_repo.historical import training_frame
from feature_repo.online_reader import OnlineReader
from feature_repo.streaming.publisher import SEQUENCE_KEY, owners
from feature_repo.streaming.rebuild import rebuild
from feature_repo.streaming.worker import Worker

LIVE_EVENTS = 600


@pytest.fixture(scope="module")
def frame(small_world: Path, small_log: Path, tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    tmp = tmp_path_factory.mktemp("frame")
    last = log_days(small_log)[-1] + pd.Timedelta(days=1).to_pytimedelta()
    dataset = snapshot(small_log, small_world / "labels", tmp / "datasets", last)
    return training_frame(dataset.path, tmp / "work")


def entries(table: pa.Table) -> dict[int, list[dict[bytes, bytes]]]:
    """The stream entries of a log's events, by partition."""
    by_partition: dict[int, list[dict[bytes, bytes]]] = {}
    numbers = table.column("stream_seq").to_pylist()
    for event, number in zip(EventBatch.from_arrow(table).rows(), numbers, strict=True):
        body = orjson.dumps({"event": event, "ingested_at": event["event_timestamp"]})
        for kind, partition in owners(event):
            by_partition.setdefault(partition, []).append(
                {b"kind": kind.encode(), b"event": body, b"stream_seq": b"%d" % number}
            )
    return by_partition


async def replay(log: pa.Table, redis_url: str) -> tuple[pd.DataFrame, list[np.ndarray], list[np.ndarray]]:
    """Warms Redis with the log's first events, then reads each later scored event before applying it."""
    client = aioredis.Redis.from_url(redis_url)
    reader = OnlineReader(redis_url, timeout_s=5)
    worker = Worker(client, None)

    async def apply(part: pa.Table) -> None:
        for partition, records in entries(part).items():
            await worker.apply(partition, records)

    rows, interactions, counts = [], [], []
    warm = len(log) - LIVE_EVENTS
    await apply(log.slice(0, warm))
    for i in range(warm, len(log)):
        one = log.slice(i, 1)
        batch = EventBatch.from_arrow(one)
        if batch["event_type"][0] in SCORED_EVENT_TYPES:
            read = await reader.read(batch)
            assert read.available
            row = {name: values[0] for name, values in read.features.items()}
            rows.append({"event_id": batch["event_id"][0], **row})
            interactions.append(read.interactions[0])
            counts.append(read.interaction_counts[0])
        await apply(one)
    await reader.close()
    await client.aclose()
    return pd.DataFrame(rows), interactions, counts


def test_every_online_feature_equals_its_offline_value(small_log: Path, frame: pd.DataFrame, redis_url: str) -> None:
    log = read_log(small_log)
    online, interactions, counts = asyncio.run(replay(log, redis_url))
    offline = frame.set_index("event_id").loc[online["event_id"]]
    assert len(online) > 400
    for name in ACTIVITY_FEATURES:
        np.testing.assert_allclose(online[name], offline[name], rtol=0, atol=1e-9, err_msg=name)
    history, history_counts = neighbour_history(EventBatch.from_arrow(log))
    position = {e: i for i, e in enumerate(log.column("event_id").to_pylist())}
    for event_id, mine, n in zip(online["event_id"], interactions, counts, strict=True):
        np.testing.assert_array_equal(mine, history[position[event_id]])
        np.testing.assert_array_equal(n, history_counts[position[event_id]])


def test_a_redelivered_record_is_applied_once(small_log: Path, redis_url: str) -> None:
    log = read_log(small_log).slice(0, 300)

    async def run(times: int) -> dict[bytes, dict[bytes, bytes]]:
        client = aioredis.Redis.from_url(redis_url)
        await client.flushall()
        worker = Worker(client, None)
        for _ in range(times):
            for partition, records in entries(log).items():
                await worker.apply(partition, records)
        state = {key: await client.hgetall(key) for key in sorted(await client.keys("*"))}
        await client.aclose()
        return state

    once, twice = asyncio.run(run(1)), asyncio.run(run(2))
    assert len(once) > 100
    assert once == twice


def test_a_rebuild_restores_what_the_worker_wrote(small_log: Path, redis_url: str) -> None:
    log = read_log(small_log)

    async def live() -> dict[bytes, dict[bytes, bytes]]:
        client = aioredis.Redis.from_url(redis_url)
        worker = Worker(client, None)
        for start in range(0, len(log), 500):
            for partition, records in entries(log.slice(start, 500)).items():
                await worker.apply(partition, records)
        state = {key: await client.hgetall(key) for key in await client.keys("*")}
        await client.flushall()
        await client.aclose()
        return state

    written = asyncio.run(live())
    with redis.Redis.from_url(redis_url) as client:
        assert rebuild(small_log, client, "fraud") == log.column("stream_seq")[-1].as_py()
        restored = {key: client.hgetall(key) for key in client.keys("*") if key != SEQUENCE_KEY.encode()}
    assert len(written) > 1000
    assert restored == written


def test_the_log_has_late_events(small_log: Path) -> None:
    """Without late events the parity test would not test arrival order."""
    log = read_log(small_log)
    delay = pc.subtract(log.column("ingested_at").cast(pa.int64()), log.column("event_timestamp").cast(pa.int64()))
    assert pc.max(delay).as_py() > 10 * 60 * 1_000_000
