"""The online reader against Feast's `get_online_features().to_dict()`, and against itself in a store of a million.

A read is what the champion needs: windows, profiles, neighbours and norms in one hop, the embeddings of the event's
entities and of their neighbours in the other. Every contender's features and embeddings are first compared, to the last
bit, for every request that is then timed. Our side runs in uvloop, as KServe's server does; Feast's is called without
any loop. A figure is a median over the calls of a round (p50), then over the rounds.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from itertools import cycle, islice
from pathlib import Path

import numpy as np
import uvloop

from feature_repo.event_batch import EventBatch
from feature_repo.online_reader import OnlineReader
from feature_repo.settings import EMBEDDING_DIM, FEAST_PROJECT
from inference_services.subgraph import Subgraph
from inference_services.transformer.decider import model_features
from pipelines.report import Row
from simulators.local_services import RedisServer
from tests.benchmarks.feast_ways import Read, Request, feast_ways, same_embeddings
from tests.benchmarks.online_store import CITY, EMBEDDING_VERSION, TOWN, copied, simulated, write_copies
from tests.benchmarks.rounds import ROUNDS, compared, in_turn
from tests.feast_answers import assert_same_features

ENTITIES = 1_000_000
_TIMEOUT_S = 30


def run(entities: int = ENTITIES) -> list[Row]:
    """Measures one event and 32 a call against Feast, and one event in a store of `entities`."""
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = stack.enter_context(RedisServer(scratch / "redis"))
        runner = stack.enter_context(asyncio.Runner(loop_factory=uvloop.new_event_loop))
        city = simulated(CITY, scratch, server.url)
        ours = Ours(runner, server.url)
        ways = dict(feast_ways(city.settings, EMBEDDING_VERSION, scratch))
        rows = _against_feast(ours, ways, _batches(city.events, 1, 50), calls=100, bounds=(6, 2))
        rows += _against_feast(ours, ways, _batches(city.events, 32, 6), calls=12, bounds=(15, None))
        ours.close()
    return rows + _at_scale(entities)


class Ours:
    """Our reader, with a loop of its own."""

    def __init__(self, runner: asyncio.Runner, redis_url: str) -> None:
        self._runner = runner
        self._reader = OnlineReader(redis_url, FEAST_PROJECT, _TIMEOUT_S)

    def close(self) -> None:
        self._runner.run(self._reader.close())

    def request(self, batch: EventBatch) -> Request:
        """A request for everything about these events."""
        read = self._runner.run(self._reader.read(batch))
        features = model_features(batch, read)
        return Request.of(batch, Subgraph.build(batch, features, read.interactions, read.interaction_counts))

    def check(self, request: Request, theirs: Read) -> None:
        """Compares the answers of both sides."""
        features, embeddings = theirs(request)
        read = self._runner.run(self._reader.read(request.batch))
        vectors, known = self._runner.run(self._embeddings(request))
        assert_same_features(read, features, request.batch)
        assert known.all()
        assert same_embeddings(request, vectors, embeddings)

    def p50(self, requests: Sequence[Request], calls: int) -> float:
        """Median seconds of both hops of a call."""
        return self._runner.run(self._p50(requests, calls))

    async def _p50(self, requests: Sequence[Request], calls: int) -> float:
        taken = []
        for request in islice(cycle(requests), calls):
            started = time.perf_counter()
            await self._reader.read(request.batch)
            await self._embeddings(request)
            taken.append(time.perf_counter() - started)
        return statistics.median(taken)

    async def _embeddings(self, request: Request) -> tuple[np.ndarray, np.ndarray]:
        graph = request.graph
        return await self._reader.embeddings(EMBEDDING_VERSION, graph.kinds, graph.ids, graph.key_ids, EMBEDDING_DIM)


def _against_feast(
    ours: Ours, ways: dict[str, Read], batches: Sequence[EventBatch], *, calls: int, bounds: tuple[float, float | None]
) -> list[Row]:
    """Against Feast as it comes, and in the way that is fastest for requests of this size."""
    size = f"{len(batches[0])} event" + "s" * (len(batches[0]) > 1)
    requests = [ours.request(batch) for batch in batches]
    for way in ways.values():
        for request in requests:
            ours.check(request, way)
    tried = {name: _p50(way, requests, calls) for name, way in ways.items()}
    default, fastest = next(iter(ways)), min(tried, key=tried.__getitem__)
    sides = [partial(ours.p50, requests, calls), *(partial(_p50, ways[w], requests, calls) for w in (default, fastest))]
    in_turn(1, *sides)
    mine, *theirs = in_turn(ROUNDS, *sides)
    rows = [Row(f"online read of {size}, our reader, p50", statistics.median(mine) * 1000, "ms")]
    for name, way, seconds, bound in zip(("default", "fastest"), (default, fastest), theirs, bounds, strict=True):
        found = compared(mine, seconds)
        met = None if bound is None else found.ratio >= bound
        text = "" if bound is None else f"at least {bound:g}"
        rows.append(Row(f"online read of {size}, Feast's {name} ({way}), p50", found.peer_s * 1000, "ms"))
        rows.append(Row(f"our reader against Feast's {name}, {size}", found.ratio, "times", text, met))
    return rows


def _p50(way: Read, requests: Sequence[Request], calls: int) -> float:
    taken = []
    for request in islice(cycle(requests), calls):
        started = time.perf_counter()
        way(request)
        taken.append(time.perf_counter() - started)
    return statistics.median(taken)


def _batches(events: EventBatch, size: int, count: int) -> list[EventBatch]:
    """Batches without a common event."""
    return [events.take(np.arange(at, at + size)) for at in range(0, size * count, size)]


def _at_scale(entities: int) -> list[Row]:
    """The same events in a town's own store, and each in one of the copies of the town that a large store holds."""
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        servers = [stack.enter_context(RedisServer(scratch / name)) for name in ("small", "large")]
        runner = stack.enter_context(asyncio.Runner(loop_factory=uvloop.new_event_loop))
        small, large = (Ours(runner, server.url) for server in servers)
        place = simulated(TOWN, scratch, servers[0].url)
        copies = max(1, round(entities / len(place.entities)))
        held = runner.run(write_copies(place, servers[1].url, range(copies)))
        batches = _batches(place.events, 1, len(place.events))
        homes = np.random.default_rng(0).integers(0, copies, len(batches)).tolist()
        here = [small.request(batch) for batch in batches]
        there = [large.request(copied(batch, home)) for batch, home in zip(batches, homes, strict=True)]
        sides = (partial(large.p50, there, len(there)), partial(small.p50, here, len(here)))
        in_turn(1, *sides)
        found = compared(*in_turn(ROUNDS, *sides))
        for reader in (small, large):
            reader.close()
    ratio = 1 / found.ratio
    return [
        Row(f"online read of 1 event among {held:,} entities, p50", found.ours_s * 1000, "ms"),
        Row(f"online read of 1 event among {len(place.entities):,} entities, p50", found.peer_s * 1000, "ms"),
        Row(f"{held:,} entities against {len(place.entities):,}", ratio, "times the p50", "at most 1.3", ratio <= 1.3),
    ]
