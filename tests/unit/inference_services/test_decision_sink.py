"""The decision log has every decision of the stream once, whatever is killed, full, or gone meanwhile."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow.parquet as pq
import pytest
import redis
import redis.asyncio as aioredis

from inference_services.decision_log import files as files_module
from inference_services.decision_log import sink as sink_module
from inference_services.decision_log.files import append, files
from inference_services.decision_log.reader import Wanted, find, find_waiting, newest
from inference_services.decision_log.sink import GROUP, Sink
from inference_services.errors import CorruptRecord
from inference_services.transformer.decisions import FIELD, STREAM
from tests.conftest import ROOT
from tests.decision_samples import decisions

LIVES = 25
NURSERY = """
import asyncio, os, signal, sys
from pathlib import Path
import redis.asyncio as aioredis
from inference_services.decision_log import files, sink

url, log = sys.argv[1], Path(sys.argv[2])
sink.FILE_ROWS, sink._READ = 20, 7
HERE = str(Path(sink.__file__).parent)

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
            await sink.Sink(client, log, flush_s=0.01, keep=0).run()
    asyncio.run(main())

for line in sys.stdin:
    child = os.fork()
    if child == 0:
        live(int(line))
        os._exit(0)
    _, status = os.waitpid(child, 0)
    print(os.WTERMSIG(status), flush=True)
"""


def publish(url: str, batches: int) -> list[str]:
    """Adds three decisions a batch to the stream and returns the ids of their events."""
    ids = []
    with redis.Redis.from_url(url) as client:
        for number in range(batches):
            for row, record in enumerate(decisions().encode()):
                ids.append(f"{number}-{row}-{os.urandom(4).hex()}")
                content = orjson.loads(record)
                content["event_id"] = content["event"]["event_id"] = ids[-1]
                client.xadd(STREAM, {FIELD: orjson.dumps(content)})
    return ids


def logged(log: Path) -> list[str]:
    """The events of all rows, the oldest first."""
    tables = [pq.ParquetFile(file).read(["event_id"]) for file in files(log)]
    return [event for table in reversed(tables) for event in table.column("event_id").to_pylist()]


async def drain(url: str, log: Path, **settings: Any) -> None:
    async with aioredis.Redis.from_url(url) as client:
        sink = Sink(client, log, **{"flush_s": 0.01, "keep": 0} | settings)
        sink.stop()
        await sink.run()


async def test_every_decision_is_logged_in_order_and_the_stream_is_trimmed_to_what_others_may_want(
    redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(sink_module, "FILE_ROWS", 8)
    monkeypatch.setattr(sink_module, "_READ", 5)
    ids = publish(redis_url, 10)
    await drain(redis_url, tmp_path, keep=12)
    assert logged(tmp_path) == ids
    with redis.Redis.from_url(redis_url) as client:
        assert client.xpending(STREAM, GROUP)["pending"] == 0
        assert 0 < client.xlen(STREAM) < 30
    more = publish(redis_url, 2)
    await drain(redis_url, tmp_path)
    assert logged(tmp_path) == ids + more


async def test_a_row_has_the_columns_that_analysts_filter_by_and_the_record_as_it_travelled(
    redis_url: str, tmp_path: Path
):
    (event, *_) = publish(redis_url, 1)
    with redis.Redis.from_url(redis_url) as client:
        entries = client.xrange(STREAM)
    await drain(redis_url, tmp_path)
    row = pq.ParquetFile(next(files(tmp_path))).read().to_pylist()[0]
    assert row["record"] == entries[0][1][FIELD.encode()]
    record = orjson.loads(row["record"])
    assert (row["event_id"], row["rider_id"], row["event_type"]) == (event, "r1-00000000000000aa", "payment_authorized")
    assert row["decided_at"].timestamp() == record["decided_at"] / 1e6
    for name in ("decision_id", "decision", "fraud_probability", "lightgbm_version", "fusion", "revision"):
        assert row[name] == record[name]
    assert files_module.SCHEMA.names == list(row)


async def test_a_sink_killed_anywhere_neither_loses_nor_doubles_a_decision(redis_url: str, tmp_path: Path):
    log, rng = tmp_path / "log", np.random.default_rng(3)
    ids, deaths = [], Counter[int]()
    command = [sys.executable, "-c", NURSERY, redis_url, str(log)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as nursery:
        assert nursery.stdin is not None
        assert nursery.stdout is not None
        for _ in range(LIVES):
            ids += publish(redis_url, int(rng.integers(0, 6)))
            nursery.stdin.write(f"{rng.integers(20, 900)}\n")
            nursery.stdin.flush()
            deaths[int(nursery.stdout.readline())] += 1
        nursery.stdin.close()
    assert deaths == {signal.SIGKILL: LIVES}
    await drain(redis_url, log)
    assert sorted(logged(log)) == sorted(ids)
    assert len(ids) > 100


class Forgetful:
    """A Redis that is gone when something is to be acknowledged."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    async def xack(self, *_: Any) -> int:
        raise redis.ConnectionError("gone")


async def test_a_file_that_was_not_acknowledged_any_more_is_not_written_again(redis_url: str, tmp_path: Path):
    ids = publish(redis_url, 2)
    async with aioredis.Redis.from_url(redis_url) as client:
        with pytest.raises(redis.ConnectionError):
            await Sink(Forgetful(client), tmp_path, flush_s=0, keep=0).step()
        assert (await client.xpending(STREAM, GROUP))["pending"] == len(ids)
        ids += publish(redis_url, 1)
        await drain(redis_url, tmp_path)  # the next process
        assert (await client.xpending(STREAM, GROUP))["pending"] == 0
    assert logged(tmp_path) == ids


async def test_what_is_no_decision_is_kept_as_it_is_and_holds_up_nobody(redis_url: str, tmp_path: Path):
    spoilt = [b"", b"{", b"7", b'{"event": {}, "decided_at": "noon"}', b'{"event": {"city": 5}}', b"\xff"]
    with redis.Redis.from_url(redis_url) as client:
        for content in spoilt:
            client.xadd(STREAM, {FIELD: content})
        client.xadd(STREAM, {"other": "field"})
    (event, *_) = publish(redis_url, 1)
    before = sink_module.UNREADABLE._value.get()
    await drain(redis_url, tmp_path)
    assert sink_module.UNREADABLE._value.get() == before + len(spoilt) + 1
    rows = pq.ParquetFile(next(files(tmp_path))).read(["record", "event_id"]).to_pylist()
    assert [row["record"] for row in rows[: len(spoilt)]] == spoilt
    assert rows[-3]["event_id"] == event


async def test_a_disk_that_fails_is_tried_again_and_loses_nothing(
    redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    ids, failures = publish(redis_url, 4), iter(range(3))

    def failing(log: Path, entries: Any) -> int:
        if next(failures, None) is not None:
            raise OSError(28, "No space left on device")
        return append(log, entries)

    monkeypatch.setattr(sink_module, "append", failing)
    async with aioredis.Redis.from_url(redis_url) as client:
        sink = Sink(client, tmp_path, flush_s=0.01, keep=0)
        running = asyncio.create_task(sink.run())
        async with asyncio.timeout(10):
            while logged(tmp_path) != ids:
                await asyncio.sleep(0.02)
        sink.stop()
        await running
        left = [int(entry.partition(b"-")[0]) for entry, _ in await client.xrange(STREAM)]
        assert len(set(left)) <= 1, "trimming is by the millisecond: those of the last may stay"


async def test_a_redis_that_lost_its_data_is_read_from_its_beginning(redis_url: str, tmp_path: Path):
    async with aioredis.Redis.from_url(redis_url) as client:
        sink = Sink(client, tmp_path, flush_s=0.01, keep=0)
        first = publish(redis_url, 1)
        await sink.step()
        await client.flushall()
        second = publish(redis_url, 1)
        while await sink.step() or len(logged(tmp_path)) < 6:
            pass
    assert logged(tmp_path) == first + second


async def test_the_decisions_of_an_event_are_found_once_each_in_the_log_and_in_the_stream(
    redis_url: str, tmp_path: Path
):
    record = next(decisions().encode())
    again = next(decisions().encode())
    event = orjson.loads(record)["event_id"]
    with redis.Redis.from_url(redis_url) as client:
        for content in (record, record, again):  # one was delivered twice
            client.xadd(STREAM, {FIELD: content})
        publish(redis_url, 1)
        assert [r.to_json() for r in find_waiting(client, tmp_path, event)] == [record, again]
        await drain(redis_url, tmp_path, keep=1000)
        assert find_waiting(client, tmp_path, event) == []
    assert [r.to_json() for r in find(tmp_path, event)] == [record, again]
    assert find(tmp_path, "nobody") == []


def test_a_record_of_another_schema_is_found_and_refused(tmp_path: Path):
    content = orjson.loads(next(decisions().encode())) | {"schema": 99}
    append(tmp_path, [("1770000000000-0", orjson.dumps(content))])
    with pytest.raises(CorruptRecord, match="schema 99"):
        find(tmp_path, content["event_id"])


def test_decisions_are_listed_newest_first_by_day_rider_and_decision(tmp_path: Path):
    day = datetime(2026, 2, 17, tzinfo=UTC)
    entries = []
    for n in range(6):
        made = day + timedelta(hours=12 * n)
        late = timedelta(hours=13 if n == 1 else 0)  # it waited in a spool over midnight
        content = orjson.loads(next(decisions().encode()))
        content |= {"event_id": f"e{n}", "decided_at": int(made.timestamp() * 1e6)}
        content["decision"] = "block" if n % 2 else "allow"
        content["event"]["rider_id"] = f"r1-{n % 3}"
        entries.append((f"{int((made + late).timestamp() * 1000)}-{n}", orjson.dumps(content)))
    append(tmp_path, sorted(entries, key=lambda e: int(e[0].partition("-")[0])))

    def events(limit: int = 10, **wanted: Any) -> list[str]:
        return [row["event_id"] for row in newest(tmp_path, Wanted(**wanted), limit)]

    assert events() == ["e5", "e4", "e3", "e1", "e2", "e0"]
    assert events(limit=2) == ["e5", "e4"]
    assert events(day=day.date()) == ["e1", "e0"]
    assert events(decision="block") == ["e5", "e3", "e1"]
    assert events(rider="r1-0") == ["e3", "e0"]
