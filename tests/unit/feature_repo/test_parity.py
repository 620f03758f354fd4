"""Online equals offline, on a small company's last days; `make check-parity` does the same for a busy week."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import redis
import redis.asyncio as aioredis

from feature_repo.event_batch import EventBatch
from feature_repo.event_log import read_log
from feature_repo.pseudonyms import ENTITY_KINDS
from feature_repo.settings import FEAST_PROJECT
from feature_repo.streaming.keys import PARTITIONS, checkpoint_key, partition_stream
from feature_repo.streaming.publisher import Publisher
from feature_repo.streaming.rebuild import rebuild
from feature_repo.streaming.worker import Worker
from inference_services.bundle import Bundle
from simulators.local_services import RedisServer
from simulators.ride_hailing import WorldSettings, read_events
from simulators.ride_hailing import days as days_of
from tests.parity.comparison import Compared, Offline, compare, compare_embeddings
from tests.parity.network import untrained_bundle
from tests.parity.rebuilt import differing_keys
from tests.parity.skews import SKEWS, Skew, offline_with
from tests.parity.week import KEY, Week, live_through

WORLD = WorldSettings(days=7, events_per_day=500, riders=400, drivers=50, late_share=0.03)
LIVE_DAYS = 2


@dataclass(frozen=True)
class Lived:
    """A week, its Redis, its world's labels and its graph model."""

    week: Week
    redis_url: str
    labels: Path
    bundle: Bundle


def live(home: Path, redis_url: str, **choices: object) -> Week:
    return live_through(WORLD, LIVE_DAYS, home, redis_url, lambda _: lambda _done, _total: None, **choices)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lived]:
    folder = tmp_path_factory.mktemp("lived")
    bundle = untrained_bundle(folder / "bundle")
    with RedisServer(folder / "redis") as server:
        week = live(folder / "home", server.url, bundle=bundle)
        yield Lived(week, server.url, folder / "home" / "world" / "labels", bundle)


@pytest.fixture(scope="module")
def offline(lived: Lived, tmp_path_factory: pytest.TempPathFactory) -> Offline:
    return Offline.of(lived.week.dataset, tmp_path_factory.mktemp("offline"))


def differing(found: list[Compared]) -> dict[str, Compared]:
    return {one.name: one for one in found if one.wrong}


def test_the_live_days_are_as_untidy_as_a_real_companys(lived: Lived) -> None:
    log = read_log(lived.week.log)
    arrived, happened = (log[name].cast("int64").to_numpy() for name in ("ingested_at", "event_timestamp"))
    assert len(lived.week.online) > 600
    assert lived.week.late > 20
    assert lived.week.repeated > 3
    assert (happened > arrived).sum() > 3
    assert (np.diff(arrived) < 0).sum() > 3
    assert log["event_id"].to_pylist() == list(dict.fromkeys(log["event_id"].to_pylist()))


def test_serving_knew_what_training_is_given(lived: Lived, offline: Offline) -> None:
    found = compare(lived.week.online, offline)
    assert differing(found) == {}
    assert sum(one.values for one in found) > 100 * len(lived.week.online)
    assert offline.frame.loc[lived.week.online.events["event_id"], "rider_tenure_days"].gt(0).mean() > 0.5
    frauds = [f"{kind}_confirmed_frauds" for kind in ENTITY_KINDS]
    assert (offline.frame.loc[lived.week.online.events["event_id"], frauds] > 0).any(axis=1).sum() > 5


def test_serving_had_the_embeddings_that_training_uses(lived: Lived, offline: Offline) -> None:
    day = int(offline.log.arrival_day.max())
    embedding, known = compare_embeddings(lived.week.online, offline, lived.bundle, day, lived.redis_url)
    assert (embedding.wrong, known.wrong) == (0, 0)
    assert known.values > 1000
    yesterday = compare_embeddings(lived.week.online, offline, lived.bundle, day - 1, lived.redis_url)
    assert all(one.wrong for one in yesterday)


@pytest.mark.parametrize("skew", SKEWS, ids=lambda skew: skew.name)
def test_a_deliberate_skew_is_found(lived: Lived, skew: Skew, tmp_path: Path) -> None:
    found = differing(compare(lived.week.online, offline_with(skew, lived.week.log, lived.labels, tmp_path)))
    assert skew.shows_in in found


@pytest.mark.slow
def test_runs_of_strangers_read_what_one_event_at_a_time_reads(lived: Lived, tmp_path: Path, redis_url: str) -> None:
    alone = live(tmp_path / "home", redis_url, longest_run=1).online
    together = lived.week.online
    assert alone.events["event_id"].tolist() == together.events["event_id"].tolist()
    for name, values in together.read.features.items():
        np.testing.assert_array_equal(alone.read.features[name], values, err_msg=name)
    np.testing.assert_array_equal(alone.read.interactions, together.read.interactions)
    np.testing.assert_array_equal(alone.read.sequence, together.read.sequence)


def test_a_rebuild_restores_what_the_worker_wrote(lived: Lived, redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client, redis.Redis.from_url(lived.redis_url) as worked:
        assert rebuild(lived.week.log, client, FEAST_PROJECT) == read_log(lived.week.log)["stream_seq"][-1].as_py()
        compared, different = differing_keys(worked, client)
        assert compared > 1000
        assert different == []
        key = next(iter(client.scan_iter("*rider_id*", 10)))
        client.hset(key, next(iter(client.hgetall(key))), b"spoilt")
        assert differing_keys(worked, client)[1] == [key]


def test_a_redelivered_record_is_applied_once(lived: Lived, redis_url: str) -> None:
    world = lived.labels.parent
    table = read_events(world, days_of(world)[0]).slice(0, 300)

    async def run() -> list[dict[bytes, dict[bytes, bytes]]]:
        client = aioredis.Redis.from_url(redis_url)
        worker, states = Worker(client, None), []
        await Publisher(client, KEY).publish(EventBatch.from_arrow(table), table["sent_at"].cast("int64").to_numpy())
        for _ in range(2):
            await client.delete(*(checkpoint_key(partition_stream(p)) for p in range(PARTITIONS)))
            await worker.drain()
            states.append({key: await client.hgetall(key) async for key in client.scan_iter("*_id*")})
        await worker.close()
        await client.aclose()
        return states

    once, twice = asyncio.run(run())
    assert len(once) > 100
    assert once == twice
