"""Live ingestion and the worker on a real Redis: nothing is lost, nothing counts twice, nothing stops the rest."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
import redis
import redis.asyncio as aioredis
from redis.exceptions import ConnectionError as RedisAway

from feature_repo.errors import MissingData, StoreUnavailable
from feature_repo.event_batch import EventBatch
from feature_repo.event_log import read_log
from feature_repo.event_schemas.validation import FieldError
from feature_repo.feast_format import decode_value
from feature_repo.online_reader import OnlineReader
from feature_repo.pseudonyms import Pseudonymiser
from feature_repo.streaming import worker as worker_module
from feature_repo.streaming.fold import state_fields, state_key
from feature_repo.streaming.keys import (
    DEAD_LETTERS,
    LOG_STREAM,
    PARTITIONS,
    SEQUENCE_KEY,
    checkpoint_key,
    partition_stream,
)
from feature_repo.streaming.metrics import WAITING
from feature_repo.streaming.publisher import Publisher
from feature_repo.streaming.rebuild import rebuild
from feature_repo.streaming.records import KIND_NAMES, read_records
from feature_repo.streaming.worker import Worker, caught_up
from feature_repo.tiles import PackedTiles
from simulators.local_services import free_port, redis_server_binary
from tests.unit.feature_repo.streams import drain

NOW_US = 1_770_000_000_000_000
STREAMS = [LOG_STREAM, *(partition_stream(p) for p in range(PARTITIONS))]
CHANGES = 6  # the position of `changes` among a rider's measures


def change(number: int, rider: str = "rider-1", **fields: Any) -> dict[str, Any]:
    event = {"event_id": f"e{number}", "event_type": "account_changed", "event_timestamp": NOW_US + number}
    return {**event, "rider_id": rider, "device_id": f"phone-of-{rider}", "city": "tehran", "change": "email", **fields}


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[aioredis.Redis]:
    connected = aioredis.Redis.from_url(redis_url)
    yield connected
    await connected.aclose()


async def publish(
    client: aioredis.Redis, pseudonymiser: Pseudonymiser, *events: dict[str, Any], at: int = NOW_US
) -> list[FieldError]:
    batch = EventBatch.from_rows(events)
    return (await Publisher(client, pseudonymiser).publish(batch, np.full(len(events), at))).refused


@contextlib.asynccontextmanager
async def at_work(worker: Worker) -> AsyncIterator[None]:
    """Runs a worker; stops it at the end and raises what it raised."""
    task = asyncio.create_task(worker.run())
    try:
        yield
    finally:
        worker.stop()
        await task


async def until_caught_up(client: aioredis.Redis, streams: list[str] = STREAMS) -> None:
    async with asyncio.timeout(30):
        while not await caught_up(client, streams):
            await asyncio.sleep(0.01)


async def changes_of(client: aioredis.Redis, pseudonymiser: Pseudonymiser, rider: str = "rider-1") -> int:
    """How many changes the rider's day tiles count."""
    key = state_key("fraud", "rider", (pseudonymiser("rider", rider),))
    _, tiles, _ = await client.hmget(key, state_fields("rider"))
    packed = PackedTiles.read(decode_value(tiles))
    return int(packed.measures[packed.keys >> 32 == 86_400, CHANGES].sum())


def sequence_of(fields: dict[bytes, bytes]) -> int:
    record = fields.get(b"record")
    return int(fields[b"stream_seq"]) if record is None else int(read_records([record])[0]["stream_seq"][0])


async def letters(client: aioredis.Redis) -> list[dict[str, Any]]:
    return [orjson.loads(fields[b"letter"]) for _, fields in await client.xrange(DEAD_LETTERS)]


class Crash(Exception):
    """The process ends here."""


async def test_the_log_has_an_event_once_after_a_crash_between_append_and_checkpoint(
    client: aioredis.Redis, pseudonymiser: Pseudonymiser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await publish(client, pseudonymiser, change(1), change(2))

    async def crash(*_: object) -> None:
        raise Crash

    with monkeypatch.context() as patch:
        patch.setattr(Worker, "_finish", crash)
        with pytest.raises(ExceptionGroup):
            await Worker(client, tmp_path, partitions=()).run()
    await publish(client, pseudonymiser, change(3))
    async with at_work(Worker(client, tmp_path, partitions=())):
        await until_caught_up(client, [LOG_STREAM])
    assert len(list(tmp_path.rglob("*.parquet"))) == 2
    assert read_log(tmp_path).column("event_id").to_pylist() == ["e1", "e2", "e3"]


async def test_publishers_at_the_same_time_lose_nothing(
    redis_url: str, client: aioredis.Redis, pseudonymiser: Pseudonymiser
) -> None:
    clients = [aioredis.Redis.from_url(redis_url) for _ in range(8)]
    calls = [publish(clients[n % 8], pseudonymiser, *(change(n * 7 + i) for i in range(7))) for n in range(40)]
    await asyncio.gather(*calls)
    for one in clients:
        await one.aclose()
    for stream in STREAMS:
        entries = [fields for _, fields in await client.xrange(stream)]
        numbers = [sequence_of(fields) for fields in entries]
        assert numbers == sorted(numbers), stream
    async with at_work(Worker(client, None)):
        await until_caught_up(client, STREAMS[1:])
    assert await changes_of(client, pseudonymiser) == 40 * 7


async def test_an_event_published_twice_counts_once(client: aioredis.Redis, pseudonymiser: Pseudonymiser) -> None:
    await publish(client, pseudonymiser, change(1), change(2))
    before = int(await client.get(SEQUENCE_KEY))
    await publish(client, pseudonymiser, change(2), change(3))
    assert int(await client.get(SEQUENCE_KEY)) == before + 1
    async with at_work(Worker(client, None)):
        await until_caught_up(client, STREAMS[1:])
    assert await changes_of(client, pseudonymiser) == 3


@pytest.mark.parametrize("minutes", [6, 75 * 365 * 24 * 60, -31 * 24 * 60])
async def test_an_event_by_a_wrong_clock_is_refused_and_harms_no_tile(
    client: aioredis.Redis, pseudonymiser: Pseudonymiser, minutes: int
) -> None:
    refused = await publish(
        client, pseudonymiser, change(1), change(2, event_timestamp=NOW_US + minutes * 60_000_000), change(3)
    )
    assert {(e.row, e.field) for e in refused} == {(1, "event_timestamp")}
    async with at_work(Worker(client, None)):
        await until_caught_up(client, STREAMS[1:])
    assert await changes_of(client, pseudonymiser) == 2
    assert [one["event"]["event_id"] for one in await letters(client)] == ["e2"]


@pytest.mark.parametrize("minutes", [4, -6 * 60, -29 * 24 * 60])
async def test_a_late_event_or_a_clock_a_little_ahead_is_taken(
    client: aioredis.Redis, pseudonymiser: Pseudonymiser, minutes: int
) -> None:
    event = change(1, event_timestamp=NOW_US + minutes * 60_000_000)
    assert await publish(client, pseudonymiser, event) == []


async def test_dead_letters_name_nobody(client: aioredis.Redis, pseudonymiser: Pseudonymiser) -> None:
    await publish(client, pseudonymiser, change(1, rider="0912 345 67 89"), change(2, rider="anna", change="?"))
    stored = await client.xrange(DEAD_LETTERS)
    assert len(stored) == 2
    assert b"0912" not in b"".join(fields[b"letter"] for _, fields in stored)
    assert b"anna" not in stored[1][1][b"letter"]
    first, second = await letters(client)
    assert first["event"]["rider_id"] == pseudonymiser("rider", "0912 345 67 89")
    assert any("rider_id must match" in reason for reason in first["reasons"])
    assert "must be one of" in second["reasons"][0]


@pytest.mark.parametrize("keeps_data", [True, False])
async def test_the_worker_outlives_redis(
    pseudonymiser: Pseudonymiser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keeps_data: bool
) -> None:
    """One that comes back with its data is taken up again; one that comes back empty waits for a rebuild."""
    monkeypatch.setattr(worker_module, "_LOG_FLUSH_S", 0.02)
    port = str(free_port())
    url, log = f"redis://127.0.0.1:{port}", tmp_path / "log"
    (tmp_path / "redis").mkdir()
    arguments = ["--appendonly", "yes", "--appendfsync", "always"] if keeps_data else []
    command = [*_redis_command(port), *arguments, "--dir", str(tmp_path / "redis")]
    client = aioredis.Redis.from_url(url)
    worker = Worker(client, log)
    async with redis_process(command, client):
        task = asyncio.create_task(worker.run())
        await publish(client, pseudonymiser, change(1))
        await until_caught_up(client)
    await asyncio.sleep(0.3)
    assert not task.done()
    async with redis_process(command, client):
        await publish(client, pseudonymiser, change(2))
        if not keeps_data:
            async with asyncio.timeout(30):
                while not WAITING._value.get():
                    await asyncio.sleep(0.01)
            assert await client.get(checkpoint_key(partition_stream(0))) is None
            with redis.Redis.from_url(url) as plain:
                rebuild(log, plain, "fraud")
        await until_caught_up(client)
        assert await changes_of(client, pseudonymiser) == 2
        assert not WAITING._value.get()
        worker.stop()
        await task
    await client.aclose()


@contextlib.asynccontextmanager
async def redis_process(command: list[str], client: aioredis.Redis) -> AsyncIterator[None]:
    """A Redis of its own, ended without a chance to save."""
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.DEVNULL)
    try:
        async with asyncio.timeout(30):
            while True:
                with contextlib.suppress(RedisAway):
                    await client.ping()
                    break
                await asyncio.sleep(0.02)
        yield
    finally:
        process.kill()
        await process.wait()


async def test_a_redis_that_is_away_loses_no_event_and_is_named(client: aioredis.Redis) -> None:
    nobody = aioredis.Redis.from_url(f"redis://127.0.0.1:{free_port()}")
    with pytest.raises(StoreUnavailable, match="publish them again"):
        await publish(nobody, Pseudonymiser(b"a key for the tests only"), change(1))
    await nobody.aclose()


def _redis_command(port: str) -> list[str]:
    return [redis_server_binary(), "--port", port.split("/", maxsplit=1)[0], "--bind", "127.0.0.1", "--save", ""]


@pytest.mark.parametrize("damage", ["value", "sequence", "other type"])
async def test_a_damaged_entity_stops_no_other(
    client: aioredis.Redis, pseudonymiser: Pseudonymiser, damage: str
) -> None:
    key = state_key("fraud", "rider", (pseudonymiser("rider", "sick"),))
    if damage == "other type":
        await client.set(key, b"not a hash")
    else:
        sequence, tiles, _ = state_fields("rider")
        await client.hset(key, mapping={sequence: b"x" if damage == "sequence" else b"0", tiles: b"\x0a\xff"})
    await publish(client, pseudonymiser, change(1, "sick"), *(change(n, f"well-{n}") for n in range(2, 12)))
    async with at_work(Worker(client, None)):
        await until_caught_up(client, STREAMS[1:])
    for n in range(2, 12):
        assert await changes_of(client, pseudonymiser, f"well-{n}") == 1
    (letter,) = await letters(client)
    records, _ = read_records([bytes.fromhex(letter["record"])])
    assert KIND_NAMES[records["kind"][0]] == "rider"
    assert records["timestamp_us"][0] == NOW_US + 1
    assert letter["reasons"]


@pytest.mark.parametrize(
    "body",
    [b"{", b'{"event": {"event_id": 5}, "ingested_at": 1}', b'{"event": {"phone": "1"}, "ingested_at": 1}', b"7"],
)
async def test_an_entry_that_is_no_event_stops_no_other(
    client: aioredis.Redis, pseudonymiser: Pseudonymiser, tmp_path: Path, body: bytes
) -> None:
    for stream in STREAMS:
        await client.xadd(stream, {"record": body, "event": body, "stream_seq": 1})
    await publish(client, pseudonymiser, change(1))
    async with at_work(Worker(client, tmp_path)):
        await until_caught_up(client)
    assert await changes_of(client, pseudonymiser) == 1
    assert read_log(tmp_path).column("event_id").to_pylist() == ["e1"]
    assert len(await letters(client)) == len(STREAMS)


async def test_the_log_reads_on_while_it_lags_and_takes_the_last_events_at_the_end(
    client: aioredis.Redis, pseudonymiser: Pseudonymiser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_module, "_BATCH", 10)
    monkeypatch.setattr(worker_module, "_LOG_FLUSH_S", 3600.0)
    await publish(client, pseudonymiser, *(change(n) for n in range(35)))
    async with at_work(Worker(client, tmp_path, partitions=())):
        await until_caught_up(client, [LOG_STREAM])  # it would take hours if each batch waited
        await publish(client, pseudonymiser, *(change(n) for n in range(35, 60)))
    assert len(read_log(tmp_path)) == 60


async def test_a_rebuild_refuses_a_store_in_use(
    redis_url: str, client: aioredis.Redis, pseudonymiser: Pseudonymiser, small_log: Path
) -> None:
    await publish(client, pseudonymiser, change(1))
    await drain(client)
    with redis.Redis.from_url(redis_url) as plain, pytest.raises(MissingData, match="Redis already holds"):
        rebuild(small_log, plain, "fraud")
    assert await changes_of(client, pseudonymiser) == 1


async def test_a_read_tells_the_last_event_that_it_saw(
    redis_url: str, client: aioredis.Redis, pseudonymiser: Pseudonymiser
) -> None:
    await publish(client, pseudonymiser, change(1), change(2), change(3, rider="rider-2"))
    await drain(client)
    last = int(await client.get(SEQUENCE_KEY))
    ids = [{"rider_id": pseudonymiser("rider", f"rider-{n}"), "device_id": "v1-" + "0" * 16} for n in (1, 2, 3)]
    reader = OnlineReader(redis_url, timeout_s=5)
    read = await reader.read(EventBatch.from_rows([change(n) | given for n, given in enumerate(ids)]))
    await reader.close()
    assert read.sequence.tolist() == [last - 1, last, 0]
