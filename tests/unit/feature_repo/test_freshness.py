"""What Prometheus sees of the materialised views."""

from __future__ import annotations

from pathlib import Path

import pytest
import redis
from prometheus_client import CollectorRegistry, generate_latest

from feature_repo.freshness import FreshnessCollector, export_freshness
from feature_repo.materialization_ledger import FACTS_KEY, Ledger, ViewFacts, read_facts
from simulators.local_services import RedisServer, free_port


def page(registry: CollectorRegistry) -> dict[str, float]:
    lines = generate_latest(registry).decode().splitlines()
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[:1] != "#")}


def record(url: str, view: str, newest_s: int, finished_s: int, rows: int) -> None:
    ledger = Ledger(redis.Redis.from_url(url))
    ledger.begin(newest_s * 1_000_000)
    facts = ViewFacts(newest_s * 1_000_000, finished_s * 1_000_000, finished_s * 1_000_000, rows, "columns")
    ledger.commit(view, facts, {newest_s * 1_000_000: "1:1"})


def test_the_page_has_the_age_of_the_newest_row_and_the_last_success(redis_url: str) -> None:
    registry = CollectorRegistry()
    registry.register(FreshnessCollector(lambda: redis.Redis.from_url(redis_url), clock=lambda: 5000.5))
    assert page(registry) == {"fraud_feature_freshness_up": 1.0}
    record(redis_url, "rider_profile", newest_s=3000, finished_s=4000, rows=7)
    record(redis_url, "city_profile", newest_s=3500, finished_s=4100, rows=0)
    assert page(registry) == {
        'fraud_feature_freshness_seconds{view="rider_profile"}': 2000.5,
        'fraud_feature_freshness_seconds{view="city_profile"}': 1500.5,
        'fraud_materialization_last_success_timestamp_seconds{view="rider_profile"}': 4000.0,
        'fraud_materialization_last_success_timestamp_seconds{view="city_profile"}': 4100.0,
        'fraud_materialization_last_rows{view="rider_profile"}': 7.0,
        'fraud_materialization_last_rows{view="city_profile"}': 0.0,
        "fraud_feature_freshness_up": 1.0,
    }


def test_an_unreachable_redis_costs_these_metrics_and_not_the_page(tmp_path: Path) -> None:
    registry = CollectorRegistry()
    port = free_port()
    export_freshness(f"redis://127.0.0.1:{port}", registry=registry)
    assert page(registry) == {"fraud_feature_freshness_up": 0.0}
    with RedisServer(tmp_path, port):
        assert page(registry) == {"fraud_feature_freshness_up": 1.0}


def test_a_cluster_that_is_not_there_yet_costs_these_metrics_and_not_the_page() -> None:
    registry = CollectorRegistry()
    export_freshness(f"redis://127.0.0.1:{free_port()}", "redis_cluster", registry)
    assert page(registry) == {"fraud_feature_freshness_up": 0.0}


def test_facts_that_cannot_be_read_count_as_lost(redis_url: str, caplog: pytest.LogCaptureFixture) -> None:
    record(redis_url, "city_profile", newest_s=3500, finished_s=4100, rows=0)
    client = redis.Redis.from_url(redis_url)
    for name, broken in {"a": b"{not json", "b": b"[1]", "c": b'{"newest_us": 1}', "d": b"\xff"}.items():
        client.hset(FACTS_KEY, name, broken)
    assert set(read_facts(client)) == {"city_profile"}
    assert "facts of a cannot be read" in caplog.text
