"""The online reader against `FeatureStore.get_online_features`: the profiles and norms of one event's entities.

The SDK returns stored blobs as they are, so the reader's own work of merging tiles, which has no peer in Feast, is on
its side of the scales: it reads and computes all store features of the event.
"""

from __future__ import annotations

import asyncio
import tempfile
from datetime import UTC, datetime, time, timedelta
from pathlib import Path

import numpy as np
import redis
from feast import FeatureStore

from feature_repo.batch_features import write_profiles
from feature_repo.event_batch import EventBatch
from feature_repo.event_log import log_days, read_log
from feature_repo.ingestion import ingest_files
from feature_repo.materialize import materialize
from feature_repo.online_reader import OnlineReader
from feature_repo.pseudonyms import ENTITY_KINDS, Pseudonymiser
from feature_repo.services import ONLINE_SERVICE
from feature_repo.settings import FEAST_PROJECT, FeatureSettings
from feature_repo.streaming.rebuild import rebuild
from pipelines.report import Row
from simulators.local_services import RedisServer
from simulators.ride_hailing import WorldSettings, simulate
from tests.benchmarks.rounds import compare

_CALLS = 200


def run() -> list[Row]:
    """Measures one event a call, all entities present."""
    with tempfile.TemporaryDirectory() as scratch, RedisServer(Path(scratch) / "redis") as server:
        settings, batch = _filled(Path(scratch), server.url)
        store = FeatureStore(config=settings.repo_config())
        service = store.get_feature_service(ONLINE_SERVICE)
        row = {f"{kind}_id": batch[f"{kind}_id"][0] for kind in ENTITY_KINDS} | {"city": batch["city"][0]}
        with asyncio.Runner() as runner:
            reader = OnlineReader(server.url, FEAST_PROJECT, timeout_s=5)
            read = runner.run(reader.read(batch))
            theirs = store.get_online_features(service, [row]).to_dict()
            assert read.features["rider_lifetime_trips"][0] == (theirs["rider_lifetime_trips"][0] or 0)
            assert read.norms.fare_per_km[0] == theirs["city_fare_per_km"][0]
            recent = read.interactions[0, 0, : read.interaction_counts[0, 0]]
            assert recent.tobytes() == theirs["rider_neighbours_blob"][0]

            async def ours() -> None:
                for _ in range(_CALLS):
                    await reader.read(batch)

            def peer() -> None:
                for _ in range(_CALLS):
                    store.get_online_features(service, [row])

            # Whole loops: entering the event loop for each call would be timed, and a server never does it.
            found = compare(lambda: runner.run(ours()), peer, 1)
            runner.run(reader.close())
    return [
        Row("online read of one event, our reader", found.ours_s / _CALLS * 1000, "ms"),
        Row("online read of one event, Feast SDK", found.peer_s / _CALLS * 1000, "ms"),
        Row("our reader against the Feast SDK", found.ratio, "times", "at least 1", found.ratio >= 1),
    ]


def _filled(scratch: Path, redis_url: str) -> tuple[FeatureSettings, EventBatch]:
    simulate(WorldSettings(days=12, events_per_day=1000), scratch / "world")
    ingest_files(scratch / "world" / "events", scratch / "log", Pseudonymiser(b"a benchmark's key"))
    settings = FeatureSettings(redis_url=redis_url, registry=scratch / "registry.db", offline=scratch / "offline")
    log = read_log(scratch / "log")
    write_profiles(log, settings.offline)
    with redis.Redis.from_url(redis_url) as client:
        rebuild(scratch / "log", client, FEAST_PROJECT)
    materialize(settings, datetime.combine(log_days(scratch / "log")[-1] + timedelta(days=1), time(), UTC))
    batch = EventBatch.from_arrow(log)
    complete = np.all([batch.present[f"{kind}_id"] for kind in ENTITY_KINDS], axis=0)
    return settings, batch.take(np.flatnonzero(complete)[-1:])
