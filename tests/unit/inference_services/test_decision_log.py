"""Decisions reach the stream, in order, whatever Redis does meanwhile."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis

from inference_services.transformer import decisions as module
from inference_services.transformer.decisions import FIELD, LOST, STREAM, DecisionLog, spool_file
from simulators.local_services import RedisServer
from tests.decision_samples import Encoded


def stream(url: str) -> list[bytes]:
    with redis.Redis.from_url(url) as client:
        return [fields[FIELD.encode()] for _, fields in client.xrange(STREAM)]


def decisions(start: int, stop: int) -> Encoded:
    return Encoded(records(start, stop))


async def until(condition: object, seconds: float = 15) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # type: ignore[operator]
            await asyncio.sleep(0.02)


def records(start: int, stop: int) -> list[bytes]:
    return [b'{"event_id": "%d"}' % i for i in range(start, stop)]


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_published_decisions_reach_the_stream_in_order(redis_url: str, tmp_path: Path):
    log = DecisionLog(redis_url, tmp_path, 10_000)
    log.publish(decisions(0, 600))
    log.stop()
    await log.run()
    assert stream(redis_url) == records(0, 600)
    assert not (tmp_path / spool_file()).exists()


async def test_decisions_spool_while_redis_is_away_and_follow_in_order(tmp_path: Path):
    with RedisServer(tmp_path / "one") as server:
        url = server.url
    spool = tmp_path / "spool" / spool_file()
    log = DecisionLog(url, spool.parent, 10_000)
    running = asyncio.create_task(log.run())
    log.publish(decisions(0, 5))
    await until(lambda: spool.exists() and spool.read_bytes().count(b"\n") == 5)
    with RedisServer(tmp_path / "two", port=int(url.rsplit(":", 1)[1].split("/")[0])) as back:
        log.publish(decisions(5, 8))
        await until(lambda: len(stream(back.url)) == 8)
        assert stream(back.url) == records(0, 8)
        await until(lambda: not spool.exists())
        log.stop()
        await running


async def test_spool_of_an_ended_process_is_delivered_without_its_torn_line(redis_url: str, tmp_path: Path):
    (tmp_path / spool_file()).write_bytes(b"".join(r + b"\n" for r in records(0, 300)) + b'{"event_i')
    log = DecisionLog(redis_url, tmp_path, 10_000)
    running = asyncio.create_task(log.run())
    await until(lambda: not (tmp_path / spool_file()).exists())
    log.stop()
    await running
    assert stream(redis_url) == records(0, 300)


async def test_a_revision_picks_up_its_own_spool_and_no_other(redis_url: str, tmp_path: Path):
    old, new = (tmp_path / spool_file(f"fraud-detector-0000{i}") for i in (1, 2))
    for spool, record in ((old, b"old"), (new, b"new")):
        spool.write_bytes(record + b"\ntorn")
    log = DecisionLog(redis_url, tmp_path, 10_000, "fraud-detector-00002")
    running = asyncio.create_task(log.run())
    await until(lambda: not new.exists())
    log.stop()
    await running
    assert stream(redis_url) == [b"new"]
    assert old.read_bytes() == b"old\ntorn"


async def test_full_spool_counts_what_it_loses(tmp_path: Path):
    line = len(records(0, 1)[0]) + 1
    log = DecisionLog("redis://127.0.0.1:1", tmp_path, 3 * line)
    lost = LOST._value.get()
    log.publish(decisions(0, 5))
    log.stop()
    await log.run()
    assert (tmp_path / spool_file()).read_bytes().splitlines() == records(0, 3)
    assert LOST._value.get() == lost + 2


async def test_a_full_disk_loses_decisions_by_count_and_delivery_goes_on(tmp_path: Path):
    spool = tmp_path / spool_file()
    log = DecisionLog("redis://127.0.0.1:1", tmp_path, 10_000_000)
    lost = LOST._value.get()
    running = asyncio.create_task(log.run())
    log.publish(decisions(0, 3))
    await until(lambda: spool.exists() and spool.read_bytes().count(b"\n") == 3)
    with largest_file(1 << 20):  # what a full disk does: part of a write succeeds, then an OSError
        log.publish(Encoded([b"x" * (1 << 20), b"y"]))
        await until(lambda: running.done() or LOST._value.get() == lost + 2)
    assert not running.done()
    log.publish(decisions(3, 5))
    log.stop()
    await running
    assert spool.read_bytes().splitlines() == records(0, 5)


async def test_a_spool_that_cannot_be_read_does_not_hold_up_new_decisions(redis_url: str, tmp_path: Path):
    log = DecisionLog(redis_url, tmp_path, 10_000)
    (tmp_path / spool_file()).mkdir()
    log.publish(decisions(0, 3))
    log.stop()
    await log.run()
    assert stream(redis_url) == records(0, 3)


async def test_decisions_wait_in_the_spool_while_the_stream_is_full(
    redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(module, "_STREAM_LENGTH", 5)
    monkeypatch.setattr(module, "_RETRY_S", 0.05)
    spool = tmp_path / spool_file()
    log = DecisionLog(redis_url, tmp_path, 10_000)
    running = asyncio.create_task(log.run())
    log.publish(decisions(0, 6))
    await until(lambda: len(stream(redis_url)) == 6)
    log.publish(decisions(6, 9))
    await until(lambda: spool.exists() and spool.read_bytes().count(b"\n") == 3)
    assert stream(redis_url) == records(0, 6)
    with redis.Redis.from_url(redis_url) as client:  # as the sink does with what it has written
        client.xtrim(STREAM, maxlen=1, approximate=False)
        await until(lambda: len(stream(redis_url)) == 4)
    assert stream(redis_url) == records(5, 9)
    log.stop()
    await running


async def test_a_batch_that_cannot_be_recorded_is_counted_and_the_next_ones_are_delivered(
    redis_url: str, tmp_path: Path
):
    class Spoilt(Encoded):
        def encode(self) -> Iterator[bytes]:  # type: ignore[override]
            yield self[0]
            raise ValueError("a defect")

    log, lost = DecisionLog(redis_url, tmp_path, 10_000), LOST._value.get()
    log.publish(Spoilt(records(0, 3)))
    log.publish(decisions(3, 5))
    log.stop()
    await log.run()
    assert stream(redis_url) == [*records(0, 1), *records(3, 5)]
    assert LOST._value.get() == lost + 2
