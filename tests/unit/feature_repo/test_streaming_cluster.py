"""Ingestion and the worker on a Redis Cluster of three: streams in one slot, entities on every server."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from redis.asyncio.cluster import RedisCluster

from feature_repo.event_batch import EventBatch
from feature_repo.event_log import read_log
from feature_repo.online_reader import OnlineReader
from feature_repo.pseudonyms import Pseudonymiser
from feature_repo.streaming.letter_box import read_letters
from feature_repo.streaming.publisher import Publisher
from feature_repo.streaming.worker import Worker
from tests.redis_servers import redis_cluster

NOW_US = 1_770_000_000_000_000


async def test_events_are_counted_across_a_cluster(tmp_path: Path, pseudonymiser: Pseudonymiser) -> None:
    rows = [
        {
            "event_id": f"e{n}",
            "event_type": "account_changed",
            "event_timestamp": NOW_US + n,
            "rider_id": f"rider-{n % 20}",
            "device_id": f"phone-{n % 20}",
            "city": "tehran",
            "change": "email",
        }
        for n in range(100)
    ]
    batch = EventBatch.from_rows(rows)
    with redis_cluster(tmp_path / "cluster") as nodes:
        url = f"redis://127.0.0.1:{nodes[0].port}"
        client = RedisCluster.from_url(url)
        publisher = Publisher(client, pseudonymiser)
        first = await publisher.publish(batch, np.full(100, NOW_US + 1000))
        again = await publisher.publish(batch, np.full(100, NOW_US + 1000))
        assert (first.refused, again.refused) == ([], [])
        assert (np.diff(first.stream_seq) == 1).all()
        assert again.stream_seq.tolist() == first.stream_seq.tolist()
        assert again.repeated.all()
        assert not first.repeated.any()
        bad = EventBatch.from_rows([rows[0] | {"event_id": "bad", "change": "shoe"}])
        assert len((await publisher.publish(bad, np.full(1, NOW_US + 1000))).refused) == 1
        assert [letter.subject() for letter in await read_letters(client)] == ["account_changed bad"]
        worker = Worker(client, tmp_path / "log")
        await worker.drain()
        assert await worker._log_next(tmp_path / "log") is False
        await worker.close()
        assert all(node.client.dbsize() > 5 for node in nodes)
        reader = OnlineReader(url, timeout_s=5, redis_type="redis_cluster")
        ids = {f"{kind}_id": [pseudonymiser(kind, row[f"{kind}_id"]) for row in rows] for kind in ("rider", "device")}
        seen = EventBatch.from_rows(
            [row | {name: values[n] for name, values in ids.items()} for n, row in enumerate(rows[:20])]
        )
        read = await reader.read(seen)
        await reader.close()
        await client.aclose()
    assert read.available
    assert read.features["rider_changes_24h"].tolist() == [5.0] * 20
    assert sorted(read_log(tmp_path / "log")["event_id"].to_pylist()) == sorted(row["event_id"] for row in rows)
