"""The streaming worker on keys that it never saw, against bytewax and against bare HSETs of the same bytes.

All sides take the same records from the same Redis streams and leave the same bytes; the ceiling only writes them, by
redis-py's pipeline. bytewax runs the fold as its users write one, a state for each key and plain Python for each event
(`tile_oracle`), without reading a cold key from Redis first, which ours does. A second flow carries our micro-batches
and our array fold: what bytewax itself costs.
"""

from __future__ import annotations

import asyncio
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import bytewax.operators as op
import numpy as np
import redis
import redis.asyncio as aioredis
from bytewax.dataflow import Dataflow
from bytewax.inputs import DynamicSource, StatelessSourcePartition
from bytewax.outputs import DynamicSink, StatelessSinkPartition
from bytewax.testing import run_main
from rich.progress import track

from feature_repo.event_batch import EventBatch
from feature_repo.event_schemas import EVENT_TYPES
from feature_repo.feast_format import encode_bytes_value, encode_timestamp
from feature_repo.graph_features import INTERACTION, K_NEIGHBOURS
from feature_repo.pseudonyms import ENTITY_KINDS, KIND_LETTERS
from feature_repo.settings import KEY_TTL_SECONDS
from feature_repo.streaming.fold import Grouped, fold, state_fields, written_fields
from feature_repo.streaming.keys import PARTITIONS, partition_stream
from feature_repo.streaming.records import KIND_NAMES, fan_out, interactions, read_records
from feature_repo.streaming.worker import Worker, caught_up
from feature_repo.tiles import ACTIVITY_KINDS
from pipelines.report import Row
from simulators.local_services import RedisServer
from tests.benchmarks.rounds import ROUNDS
from tests.unit.feature_repo.tile_oracle import PlainTiles, added

EVENTS = 10_000
_STREAMS = [partition_stream(p) for p in range(PARTITIONS)]
_BATCH = 2000
_MILLION = 1_000_000
Write = tuple[bytes, dict[bytes, bytes]]


def run(events: int = EVENTS, entities: int = _MILLION) -> list[Row]:
    """Rounds of all sides in turn, then a million entities through one worker."""
    with tempfile.TemporaryDirectory() as scratch, RedisServer(Path(scratch)) as server:
        bench = _Bench(server.url, events)
        found = bench.measure()
        grown = _growth(server.url, entities)
    ours, plain, arrays, ceiling = (statistics.median(found[name]) for name in ("ours", "plain", "arrays", "ceiling"))
    over_bytewax = statistics.median(b / a for a, b in zip(found["ours"], found["plain"], strict=True))
    of_ceiling = statistics.median(c / a for a, c in zip(found["ours"], found["ceiling"], strict=True))
    return [
        Row("streaming worker, five cold entities an event", round(events / ours), "events/s"),
        Row("bytewax, a state for each key", round(events / plain), "events/s"),
        Row("bytewax around our micro-batches and array fold", round(events / arrays), "events/s"),
        Row("bare pipelined HSETs of the same bytes", round(events / ceiling), "events/s"),
        Row("streaming worker over bytewax", over_bytewax, "times", "at least 5", over_bytewax >= 5),
        Row("streaming worker of the ceiling", of_ceiling, "share", "at least 40 %", of_ceiling >= 0.4),
        Row(f"worker's memory growth over {entities:,} entities", grown, "MiB", "at most 128", grown <= 128),
    ]


def cold_events(n: int, seed: int) -> EventBatch:
    """n completed trips of riders, drivers, phones and cards that occur once."""
    rng = np.random.default_rng(seed)
    columns = {
        "event_id": np.array([f"e{seed}-{i}" for i in range(n)], object),
        "event_type": np.full(n, "trip_completed", object),
        "event_timestamp": 1_770_000_000_000_000 + rng.integers(0, 86_400_000_000, n),
        "city": np.full(n, "tehran", object),
        "amount": rng.integers(10_000, 1_000_000, n),
    }
    for kind in ENTITY_KINDS:
        hashes = rng.integers(0, 2**63, n)
        columns[f"{kind}_id"] = np.array([f"{KIND_LETTERS[kind]}1-{h:016x}" for h in hashes], object)
    return EventBatch.from_columns(columns, {}, n)


class _Bench:
    def __init__(self, url: str, events: int) -> None:
        self._url = url
        self._redis = redis.Redis.from_url(url)
        self._fanned = fan_out(cold_events(events, 0), np.arange(1, events + 1), PARTITIONS)
        self._written: list[Write] = []

    def measure(self) -> dict[str, list[float]]:
        """Seconds of each side by round, after one round that is checked and not timed."""
        sides: dict[str, Callable[[], None]] = {
            "ours": self._ours,
            "plain": lambda: run_main(_flow(self._url, arrays=False)),
            "arrays": lambda: run_main(_flow(self._url, arrays=True)),
            "ceiling": self._ceiling,
        }
        found: dict[str, list[float]] = {name: [] for name in sides}
        for number in track(range(ROUNDS + 1), "rounds"):
            states = {}
            for name, side in sides.items():
                self._prepare()
                started = time.perf_counter()
                side()
                found[name].append(time.perf_counter() - started)
                states[name] = self._state() if number == 0 else {}
                self._written = self._written or list(states[name].items())
            assert all(state == states["ours"] for state in states.values()), "the sides leave different bytes"
        return {name: seconds[1:] for name, seconds in found.items()}

    def _prepare(self) -> None:
        self._redis.flushall()
        pipeline = self._redis.pipeline(transaction=False)
        for record, partition in zip(self._fanned.records, self._fanned.partitions.tolist(), strict=True):
            pipeline.xadd(partition_stream(partition), {"record": record.tobytes()})
        pipeline.execute()

    def _state(self) -> dict[bytes, dict[bytes, bytes]]:
        keys = [key for key in self._redis.scan_iter(count=10_000) if not key.startswith(b"{fraud}")]
        pipeline = self._redis.pipeline(transaction=False)
        for key in keys:
            pipeline.hgetall(key)
        return dict(zip(keys, pipeline.execute(), strict=True))

    def _ours(self) -> None:
        asyncio.run(_work(self._url))

    def _ceiling(self) -> None:
        for start in range(0, len(self._written), _BATCH):
            pipeline = self._redis.pipeline(transaction=False)
            for key, fields in self._written[start : start + _BATCH]:
                pipeline.hset(key, mapping=fields)
            pipeline.execute()


async def _work(url: str) -> None:
    async with aioredis.Redis.from_url(url) as client:
        worker = Worker(client, None)
        task = asyncio.create_task(worker.run())
        while not await caught_up(client, _STREAMS):
            await asyncio.sleep(0.005)
        worker.stop()
        # A worker that waits for more does so for up to 200 ms: that is not its work.
        task.cancel()


class _Streams(StatelessSourcePartition[bytes]):
    """The records of all partitions, one after the other."""

    def __init__(self, url: str) -> None:
        self._redis = redis.Redis.from_url(url)
        self._left = [(stream, "0") for stream in _STREAMS]

    def next_batch(self) -> Iterable[bytes]:
        if not self._left:
            raise StopIteration
        stream, after = self._left[0]
        answer = self._redis.xread({stream: after}, count=_BATCH)
        if not answer:
            self._left.pop(0)
            return []
        entries = answer[0][1]
        self._left[0] = stream, entries[-1][0]
        return [fields[b"record"] for _, fields in entries]


class _Source(DynamicSource[bytes]):
    def __init__(self, url: str) -> None:
        self._url = url

    def build(self, step_id: str, worker_index: int, worker_count: int) -> _Streams:
        return _Streams(self._url)


class _Writes(StatelessSinkPartition[Write]):
    def __init__(self, url: str) -> None:
        self._redis = redis.Redis.from_url(url)

    def write_batch(self, items: list[Write]) -> None:
        pipeline = self._redis.pipeline(transaction=False)
        for key, fields in items:
            pipeline.hset(key, mapping=fields)
            pipeline.expire(key, KEY_TTL_SECONDS)
        pipeline.execute()


class _Sink(DynamicSink[Write]):
    def __init__(self, url: str) -> None:
        self._url = url

    def build(self, step_id: str, worker_index: int, worker_count: int) -> _Writes:
        return _Writes(self._url)


def _flow(url: str, *, arrays: bool) -> Dataflow:
    flow = Dataflow("features")
    records = op.input("records", flow, _Source(url))
    if arrays:
        client = redis.Redis.from_url(url)
        writes = op.flat_map_batch("fold", records, lambda bodies: _array_fold(client, bodies))
    else:
        keyed = op.flat_map_batch("decode", records, _decoded)
        folded = op.stateful_map("fold", keyed, _plain_fold)
        writes = op.map("fields", folded, lambda item: item[1])
    op.output("hset", writes, _Sink(url))
    return flow


def _array_fold(client: redis.Redis, bodies: list[bytes]) -> Iterable[Write]:
    grouped = Grouped.of(read_records(bodies)[0])
    keys, kinds = grouped.keys("fraud"), [KIND_NAMES[kind] for kind in grouped.kinds]
    pipeline = client.pipeline(transaction=False)
    for key, kind in zip(keys, kinds, strict=True):
        pipeline.hmget(key, state_fields(kind))
    folded = fold(grouped, pipeline.execute())
    for key, kind, values in zip(keys, kinds, folded.values, strict=True):
        yield key, dict(zip(written_fields(kind), values or [], strict=True))


def _decoded(bodies: list[bytes]) -> Iterable[tuple[str, tuple[Any, ...]]]:
    """(Redis key, what the fold needs) of each record."""
    grouped = Grouped.of(read_records(bodies)[0])
    keys = grouped.keys("fraud")
    recent = interactions(grouped.records).tobytes()
    size = INTERACTION.itemsize
    for i, (record, entity) in enumerate(zip(grouped.records.tolist(), grouped.entity.tolist(), strict=True)):
        number, _, kind, event_type, _, other_kind, _, _, other, timestamp, amount = record
        counted = ACTIVITY_KINDS[KIND_NAMES[kind]].counterpart == f"{ENTITY_KINDS[other_kind]}_id"
        key, mine = keys[entity], recent[i * size : (i + 1) * size]
        value = (number, key, kind, EVENT_TYPES[event_type], timestamp, amount, other if counted else None, mine)
        yield key.decode("latin-1"), value


class _Entity:
    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.tiles = PlainTiles(len(ACTIVITY_KINDS[kind].measures))
        self.recent: list[bytes] = []


def _plain_fold(state: _Entity | None, value: tuple[Any, ...]) -> tuple[_Entity, Write]:
    number, key, kind, event_type, timestamp, amount, other, recent = value
    state = state or _Entity(KIND_NAMES[kind])
    state.tiles.add(timestamp, added(ACTIVITY_KINDS[state.kind], event_type, amount), other)
    stamp = encode_timestamp(max(state.tiles.latest.values()))
    values = [b"%d" % number, encode_bytes_value(state.tiles.blob()), stamp]
    if state.kind in ENTITY_KINDS:
        state.recent = [recent, *state.recent][:K_NEIGHBOURS]
        values += [encode_bytes_value(b"".join(state.recent)), stamp]
    return state, (key, dict(zip(written_fields(state.kind), values, strict=True)))


def _growth(url: str, entities: int) -> float:
    """MiB by which the process grew while a worker applied events of so many different entities."""
    step = EVENTS
    each = len(KIND_NAMES)

    async def work() -> float:
        async with aioredis.Redis.from_url(url) as client:
            await client.flushall()
            worker, before = Worker(client, None), 0.0
            for number in track(range(entities // (step * each)), "a million entities"):
                fanned = fan_out(cold_events(step, number + 1), np.arange(1, step + 1) + number * step, PARTITIONS)
                for partition in range(PARTITIONS):
                    mine = fanned.records[fanned.partitions == partition]
                    for start in range(0, len(mine), _BATCH):
                        part = mine[start : start + _BATCH]
                        await worker.apply(partition, [(b"0-1", [b"record", r.tobytes()]) for r in part])
                before = before or _resident_mib()
            return _resident_mib() - before

    return asyncio.run(work())


def _resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20
