"""Records say how new the materialised features are, and go without while the store does not."""

from __future__ import annotations

import json
import time

import redis

from feature_repo.materialization_ledger import FACTS_KEY
from inference_services.transformer.materialised_views import MaterialisedViews


def write(client: redis.Redis, view: str, newest_us: int) -> None:
    facts = {"newest_us": newest_us, "finished_us": 2, "filled_us": 3, "rows": 4, "columns": "five"}
    client.hset(FACTS_KEY, view, json.dumps(facts))


def test_the_newest_rows_are_looked_up_again_and_kept_while_the_store_is_away(redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        write(client, "rider_profile", 10)
        views = MaterialisedViews.watching(redis_url, "redis", every_s=0.02)
        deadline = time.monotonic() + 10
        for newest in (10, 20):
            write(client, "rider_profile", newest)
            while views.newest() != {"rider_profile": newest}:
                assert time.monotonic() < deadline
                time.sleep(0.01)
    views.close()


def test_a_store_that_was_never_there_tells_nothing() -> None:
    views = MaterialisedViews.watching("redis://127.0.0.1:1", "redis")
    views.close()
    assert views.newest() == {}


def test_what_is_known_stays_while_the_store_is_away(redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        write(client, "rider_profile", 10)
        views = MaterialisedViews(lambda: client)
        views.look()
    client.connection_pool.connection_kwargs["port"] = 1
    client.connection_pool.disconnect()
    views.look()
    assert views.newest() == {"rider_profile": 10}
