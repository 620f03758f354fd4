"""The reader over a Redis Cluster: the same answers, from all its servers at once, also while it changes."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import redis
from feast import FeatureStore
from redis.cluster import RedisCluster
from redis.crc import key_slot

from feature_repo.definitions import definitions
from feature_repo.event_batch import EventBatch
from feature_repo.event_log import read_log
from feature_repo.feast_format import encode_int64_value, hash_field, redis_key
from feature_repo.online_reader import OnlineReader, StoreRead
from feature_repo.services import ONLINE_SERVICE
from feature_repo.settings import FeatureSettings
from feature_repo.streaming.rebuild import rebuild
from inference_services.transformer.decisions import STREAM, DecisionLog
from tests.decision_samples import Encoded
from tests.feast_answers import assert_same_features, feast_features, online_rows
from tests.redis_servers import ClusterNode, redis_cluster

PATIENT_S = 20.0
EVENTS = 100


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[ClusterNode]]:
    with redis_cluster(tmp_path_factory.mktemp("cluster")) as nodes:
        yield nodes


@pytest.fixture
def batch(small_log: Path) -> EventBatch:
    """The last events of the small log."""
    log = read_log(small_log)
    return EventBatch.from_arrow(log.slice(len(log) - EVENTS, EVENTS))


@pytest.fixture
def filled(cluster: list[ClusterNode], small_log: Path, redis_url: str) -> str:
    """The address of the cluster, which holds what `redis_url` holds: the small log's entities."""
    for node in cluster:
        node.client.flushall()
    with redis.Redis.from_url(redis_url) as single, clustered(cluster) as client:
        rebuild(small_log, single, "fraud")
        pipeline = client.pipeline()
        for key in single.scan_iter(b"*fraud", count=1000):
            pipeline.hset(key, mapping=single.hgetall(key))
        pipeline.execute()
    return url(cluster[0])


def url(node: ClusterNode) -> str:
    return f"redis://127.0.0.1:{node.port}"


def clustered(cluster: list[ClusterNode]) -> RedisCluster:
    return RedisCluster("127.0.0.1", cluster[0].port)


def read(address: str, batch: EventBatch, timeout_s: float = PATIENT_S, **kind: str) -> StoreRead:
    async def call() -> StoreRead:
        reader = OnlineReader(address, timeout_s=timeout_s, **kind)  # type: ignore[arg-type]
        try:
            return await reader.read(batch)
        finally:
            await reader.close()

    return asyncio.run(call())


def same(one: StoreRead, other: StoreRead) -> None:
    assert one.available, one.problem
    assert other.available, other.problem
    for name, values in one.features.items():
        np.testing.assert_array_equal(values, other.features[name], err_msg=name)
    np.testing.assert_array_equal(one.interactions, other.interactions)
    np.testing.assert_array_equal(one.interaction_counts, other.interaction_counts)


def calls(cluster: list[ClusterNode], command: str) -> list[int]:
    """How often each server has run a command."""
    none = {"calls": 0}
    return [node.client.info("commandstats").get(f"cmdstat_{command}", none)["calls"] for node in cluster]


def test_a_cluster_answers_as_one_server_and_each_of_its_servers_takes_part(
    cluster: list[ClusterNode], filled: str, redis_url: str, batch: EventBatch
) -> None:
    for node in cluster:
        node.client.config_resetstat()
    found = read(filled, batch, redis_type="redis_cluster")
    same(found, read(redis_url, batch))
    assert found.features["rider_requests_30d"].max() > 0
    assert min(calls(cluster, "hmget")) > 10


def test_feast_reads_the_same_cluster_with_our_settings(filled: str, batch: EventBatch, tmp_path: Path) -> None:
    settings = FeatureSettings(
        redis_url=filled, redis_type="redis_cluster", registry=tmp_path / "registry.db", offline=tmp_path
    )
    store = FeatureStore(config=settings.repo_config())
    store.apply(definitions(tmp_path))
    theirs = feast_features(store, store.get_feature_service(ONLINE_SERVICE), online_rows(batch))
    assert_same_features(read(filled, batch, redis_type="redis_cluster"), theirs, batch)


def test_embeddings_come_from_all_servers(cluster: list[ClusterNode]) -> None:
    field = hash_field("rider_embedding_v", "embedding")
    vectors = np.arange(120, dtype="<f4").reshape(30, 4)
    with clustered(cluster) as client:
        for n, vector in enumerate(vectors):
            message = bytes([0x82, 0x01, 18, 0x0A, 16]) + vector.tobytes()
            client.hset(redis_key("fraud", {"rider_id": f"r1-{n:016x}"}), mapping={field: message})

    async def call() -> tuple[np.ndarray, np.ndarray]:
        reader = OnlineReader(url(cluster[1]), timeout_s=PATIENT_S, redis_type="redis_cluster")
        ids = np.arange(31, dtype=np.uint64)
        try:
            assert await reader.ping()
            return await reader.embeddings("v", np.zeros(31, int), ids, np.ones(31, int), 4)
        finally:
            await reader.close()

    found, known = asyncio.run(call())
    np.testing.assert_array_equal(found[:30], vectors)
    assert known.tolist() == [1.0] * 30 + [0.0]


def riders(slot: int, count: int) -> list[str]:
    """Riders whose keys lie in a slot."""
    found = []
    number = 0
    while len(found) < count:
        number += 1
        name = f"r1-{number:016x}"
        if key_slot(redis_key("fraud", {"rider_id": name})) == slot:
            found.append(name)
    return found


def of_riders(names: list[str]) -> EventBatch:
    row = {"event_type": "account_changed", "event_timestamp": 1, "device_id": "v1-" + "0" * 16, "city": "tehran"}
    return EventBatch.from_rows([{**row, "event_id": n, "rider_id": n, "change": "email"} for n in names])


def test_a_slot_that_moves_is_followed(cluster: list[ClusterNode]) -> None:
    source, target = cluster[0], cluster[2]
    slot = 100
    names = riders(slot, 4)
    keys = [redis_key("fraud", {"rider_id": name}) for name in names]
    field = hash_field("rider_profile", "rider_lifetime_trips")
    for n, key in enumerate(keys):
        source.client.hset(key, mapping={field: encode_int64_value(n + 1)})
    numbers = [node.client.execute_command("CLUSTER", "MYID") for node in (source, target)]

    async def call() -> None:
        reader = OnlineReader(url(cluster[1]), timeout_s=PATIENT_S, redis_type="redis_cluster")

        async def trips() -> list[float]:
            found = await reader.read(of_riders(names))
            assert found.available, found.problem
            return list(found.features["rider_lifetime_trips"])

        assert await trips() == [1, 2, 3, 4]
        target.client.execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", numbers[0])
        source.client.execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", numbers[1])
        source.client.migrate("127.0.0.1", target.port, keys[:2], 0, 5000)
        assert await trips() == [1, 2, 3, 4]  # two of them are asked of the target (ASK)
        source.client.migrate("127.0.0.1", target.port, keys[2:], 0, 5000)
        for node in (target, source, cluster[1]):
            node.client.execute_command("CLUSTER", "SETSLOT", slot, "NODE", numbers[1])
        assert await trips() == [1, 2, 3, 4]  # all of them are (MOVED)
        for node in cluster:
            node.client.config_resetstat()
        assert await trips() == [1, 2, 3, 4]  # and now at once
        assert sum(calls(cluster, "hmget")) == 4 + 1 + 1  # the riders, their device, their city
        assert sum(calls(cluster, "asking")) == 0
        await reader.close()

    asyncio.run(call())


def test_a_server_that_hangs_makes_the_store_unavailable_until_it_goes_on(cluster: list[ClusterNode]) -> None:
    async def call() -> None:
        reader = OnlineReader(url(cluster[0]), timeout_s=0.2, redis_type="redis_cluster")
        everywhere = of_riders([f"r1-{n:016x}" for n in range(20)])
        assert (await reader.read(everywhere)).available
        os.kill(cluster[0].process.pid, signal.SIGSTOP)
        try:
            for _ in range(4):
                assert not (await reader.read(everywhere)).available
            assert not await reader.ping()
        finally:
            os.kill(cluster[0].process.pid, signal.SIGCONT)
        reader._timeout_s = PATIENT_S
        assert (await reader.read(everywhere)).available
        await reader.close()

    asyncio.run(call())


def test_what_is_no_cluster_is_said_to_be_none(redis_url: str) -> None:
    found = read(redis_url, of_riders(["r1-" + "0" * 16]), redis_type="redis_cluster")
    assert not found.available
    assert "cluster" in found.problem


def test_decisions_reach_their_stream_on_a_cluster(cluster: list[ClusterNode], tmp_path: Path) -> None:
    async def call() -> None:
        decisions = DecisionLog(url(cluster[0]), tmp_path, 10_000, redis_type="redis_cluster")
        decisions.publish(Encoded([b'{"decision": 1}', b'{"decision": 2}']))
        decisions.stop()
        await decisions.run()

    asyncio.run(call())
    with clustered(cluster) as client:
        records = [fields[b"decision"] for _, fields in client.xrange(STREAM)]
    assert records == [b'{"decision": 1}', b'{"decision": 2}']
