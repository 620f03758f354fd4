"""A company's week: a past that is in the log already, then live days through ingestion, the worker and midnights."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import redis
import redis.asyncio as aioredis

from components.write_embeddings.logic import write_embeddings
from components.write_profiles.logic import write_profiles
from feature_repo.datasets import Dataset, snapshot
from feature_repo.ingestion import ingest_files
from feature_repo.materialize import materialize
from feature_repo.pseudonyms import Pseudonymiser
from feature_repo.settings import FEAST_PROJECT, FeatureSettings
from feature_repo.streaming.keys import LOG_STREAM
from feature_repo.streaming.rebuild import rebuild
from feature_repo.streaming.worker import Worker, caught_up
from inference_services.bundle import Bundle
from simulators.ride_hailing import WorldSettings, days, simulate
from tests.parity.lockstep import LONGEST_RUN, Online, Progress, replay
from tests.parity.traffic import traffic

KEY = Pseudonymiser(b"a key for the parity check only")
_EPOCH = date(1970, 1, 1)
_LOG_TIMEOUT_S = 120
Bar = Callable[[str], Progress]


@dataclass(frozen=True)
class Week:
    """What was lived through.

    Attributes:
        online: what serving knew about every scored event of the live days.
        dataset: the whole log, as training gets it.
        log: the event log, the past and what the worker appended.
        late: events of the live days that arrived more than a minute after they happened.
        repeated: events that were published a second time.
    """

    online: Online
    dataset: Dataset
    log: Path
    late: int
    repeated: int


def live_through(
    settings: WorldSettings,
    live_days: int,
    home: Path,
    redis_url: str,
    bar: Bar,
    *,
    bundle: Bundle | None = None,
    longest_run: int = LONGEST_RUN,
) -> Week:
    """Simulates a world, takes its first days as the past, and lives through its last days in lockstep.

    Args:
        settings: the world.
        live_days: how many of its days are live.
        home: an empty folder.
        redis_url: an empty Redis.
        bar: title -> progress callback.
        bundle: a graph model whose embeddings are published at the last midnight.
        longest_run: see `lockstep.replay`.
    """
    simulate(settings, home / "world", progress=bar("simulate"))
    every, log = days(home / "world"), home / "log"
    past, live = every[:-live_days], every[-live_days:]
    ingest_files(home / "world" / "events", log, KEY, days=len(past), progress=bar("ingest the past"))
    with redis.Redis.from_url(redis_url) as client:
        rebuild(log, client, FEAST_PROJECT, bar("fold the past"))
    features = FeatureSettings(redis_url=redis_url, registry=home / "registry.db", offline=home / "offline")
    sent = traffic(home / "world", live, settings.rng("parity traffic"))

    async def midnight(day: int) -> None:
        await log_everything(redis_url, log)
        last = day == (live[-1] - _EPOCH).days
        publish(features, log, home / "world" / "labels", _EPOCH + timedelta(days=day), bundle if last else None)

    online = asyncio.run(
        replay(sent, redis_url, KEY, midnight, bar("live: events read, published, applied"), longest_run=longest_run)
    )
    asyncio.run(log_everything(redis_url, log))
    dataset = snapshot(log, home / "world" / "labels", home / "datasets", live[-1] + timedelta(days=1))
    late = int(((sent.arrived_us - sent.batch["event_timestamp"])[sent.first] > 60_000_000).sum())
    return Week(online, dataset, log, late, int((~sent.first).sum()))


def publish(features: FeatureSettings, log: Path, labels: Path, day: date, bundle: Bundle | None) -> None:
    """Publishes at the first instant of a day, from what had arrived before: profiles, norms and embeddings.

    Of the labels too: the world's label log goes on, and the publication leaves out what nobody could know.
    """
    now = datetime.combine(day, time(), UTC)
    write_profiles(log, labels, now, features.offline)
    if bundle is not None:
        write_embeddings(bundle.folder, log, labels, now, features.offline)
    materialize(features, now)


async def log_everything(redis_url: str, log: Path) -> None:
    """Has a worker append to the log what waits in its stream."""
    client: Any = aioredis.Redis.from_url(redis_url)
    worker = Worker(client, log, partitions=())
    task = asyncio.create_task(worker.run())
    try:
        async with asyncio.timeout(_LOG_TIMEOUT_S):
            while not await caught_up(client, [LOG_STREAM]):
                await asyncio.sleep(0.02)
    finally:
        worker.stop()
        await task
        await client.aclose()
