"""Replays a day of events as live traffic: score over V2, then publish to ingestion, as a producer does."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import orjson
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import redis.asyncio as aioredis
from numpy.typing import NDArray

from feature_repo.event_batch import EventBatch
from feature_repo.event_schemas import SCORED_EVENT_TYPES
from feature_repo.ingestion import screen
from feature_repo.pseudonyms import ENTITY_KINDS, Pseudonymiser
from feature_repo.streaming.keys import LOG_STREAM, PARTITIONS, partition_stream
from feature_repo.streaming.publisher import Publisher
from feature_repo.streaming.worker import caught_up
from pipelines.errors import StepError
from pipelines.v2_events import outputs, request_body

# The most events that the worker is given at once.
CHUNK = 16
_STREAMS = [partition_stream(p) for p in range(PARTITIONS)]
_WORKER_TIMEOUT_S = 30.0


@dataclass(frozen=True)
class Replayed:
    """What came back.

    Attributes:
        decisions: one row per scored event: event_id, event_type, the detector's outputs, latency_ms.
        published: events taken by ingestion.
        refused: events that ingestion refused.
        wall_s: how long it took.
    """

    decisions: pd.DataFrame
    published: int
    refused: int
    wall_s: float


def read_day(events: Path, day: date, limit: int | None = None) -> pa.Table:
    """The events that arrived on `day`, in arrival order.

    Raises:
        StepError: there are no events of that day.
    """
    files = sorted((events / f"day={day}").glob("[!.]*.parquet"))
    if not files:
        raise StepError(f"no events of {day} in {events}: run `fraud simulate`, or give another --day")
    table = pa.concat_tables([pq.ParquetFile(f).read() for f in files]).sort_by("sent_at")
    return table if limit is None else table.slice(0, limit)


async def replay(
    table: pa.Table,
    detector_url: str,
    redis_url: str,
    pseudonymise: Pseudonymiser,
    progress: Callable[[int, int], None] | None = None,
) -> Replayed:
    """Sends events to the detector, then to ingestion, a few at a time, and lets the worker catch up in between.

    In lockstep: events that go together share no entity, so every event sees exactly those before it, as in training,
    and on a store restored to the same log a replay gives the same scores. A day can be replayed once, for its events
    would see themselves the second time.

    Args:
        table: raw events in arrival order, with `sent_at`.
        detector_url: the address of `fraud-detector`.
        redis_url: where ingestion publishes.
        pseudonymise: the key for ids; the detector takes pseudonyms.
        progress: called with (events done, events in all).

    Raises:
        StepError: the detector refused an event or cannot be reached, no worker takes the events, or they were
            published before.
    """
    batch = EventBatch.from_arrow(table)
    arrived = table.column("sent_at").cast(pa.int64()).to_numpy()
    screened = screen(batch, pseudonymise, arrived)
    is_scored = np.isin(screened.accepted["event_type"].astype(str), SCORED_EVENT_TYPES)
    rows: list[dict[str, Any]] = []
    async with (
        aioredis.Redis.from_url(redis_url) as client,
        httpx.AsyncClient(base_url=detector_url, timeout=10) as http,
    ):
        publisher = Publisher(client, pseudonymise)
        if await publisher.any_taken(screened.accepted["event_id"].tolist()):
            raise StepError("events of this day were already published: replay another day, or restart `fraud serve`")
        started = time.perf_counter()
        for chunk in strangers(batch, CHUNK):
            scored = np.flatnonzero(np.isin(screened.kept, chunk) & is_scored)
            rows += [await score_one(http, screened.accepted.take(np.array([i]))) for i in scored]
            await publisher.publish(batch.take(chunk), arrived[chunk])
            await _wait_for_worker(client)
            if progress:
                progress(int(chunk[-1]) + 1, len(batch))
        wall = time.perf_counter() - started
    return Replayed(pd.DataFrame(rows), len(screened.kept), len(batch) - len(screened.kept), wall)


def strangers(batch: EventBatch, most: int) -> Iterator[NDArray[np.int64]]:
    """Cuts a batch into runs of at most `most` events in order, no two of a run with an entity in common."""
    ids = [f"{kind}_id" for kind in ENTITY_KINDS]
    start, seen = 0, set[tuple[str, str]]()
    for row in range(len(batch)):
        mine = {(name, str(batch[name][row])) for name in ids if batch.present[name][row]}
        if row - start == most or seen & mine:
            yield np.arange(start, row)
            start, seen = row, set()
        seen |= mine
    if start < len(batch):
        yield np.arange(start, len(batch))


async def score_one(http: httpx.AsyncClient, event: EventBatch) -> dict[str, Any]:
    """Scores one pseudonymised event and returns the detector's outputs with the latency.

    Raises:
        StepError: the detector cannot be reached or did not accept the event.
    """
    event_id = str(event["event_id"][0])
    body = orjson.dumps(request_body(event, event_id))
    sent = time.perf_counter()
    try:
        answer = await http.post(
            "/v2/models/fraud-detector/infer", content=body, headers={"content-type": "application/json"}
        )
    except httpx.HTTPError as error:
        raise StepError(f"the detector at {http.base_url} does not answer ({error!r}): is `fraud serve` up?") from None
    latency = (time.perf_counter() - sent) * 1000
    if answer.status_code != 200:
        raise StepError(f"the detector refused event {event_id} with {answer.status_code}: {answer.text[:300]}")
    values = {name: column[0] for name, column in outputs(orjson.loads(answer.content)).items()}
    return {"event_id": event_id, "event_type": str(event["event_type"][0]), **values, "latency_ms": latency}


async def burst(events: EventBatch, detector_url: str, connections: int) -> float:
    """Scores events over `connections` at once, without publishing them; returns requests per second."""
    positions = iter(range(len(events)))
    limits = httpx.Limits(max_connections=connections)

    async def lane(http: httpx.AsyncClient) -> None:
        for i in positions:
            await score_one(http, events.take(np.array([i])))

    async with httpx.AsyncClient(base_url=detector_url, timeout=30, limits=limits) as http:
        started = time.perf_counter()
        async with asyncio.TaskGroup() as tasks:
            for _ in range(connections):
                tasks.create_task(lane(http))
        return len(events) / (time.perf_counter() - started)


async def _wait_for_worker(client: Any) -> None:
    deadline = time.monotonic() + _WORKER_TIMEOUT_S
    while not await caught_up(client, _STREAMS):
        if time.monotonic() > deadline:
            raise StepError(f"no streaming worker took the events of {LOG_STREAM}: is `fraud serve` up?")
        await asyncio.sleep(0.001)
