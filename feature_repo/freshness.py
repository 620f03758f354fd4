"""How fresh the materialised features are, for Prometheus.

Nobody can scrape a batch job, so a process that lives (the streaming worker) reads what the job left in Redis whenever
it is scraped itself. Where several do, they export the same: take the `max by (view)`. A view that was never finished
is absent.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from typing import Any

import redis
from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from redis.exceptions import RedisError

from feature_repo.materialization_ledger import ViewFacts, read_facts

# The scraper's own patience is 10 s; a metrics page without these numbers is better than none.
_TIMEOUT_S = 2.0

logger = logging.getLogger(__name__)


class FreshnessCollector(Collector):
    """Reads the ledger of materialisation at every scrape.

    Args:
        client: a synchronous Redis client that returns bytes.
        clock: seconds since the epoch.
    """

    def __init__(self, client: Any, clock: Callable[[], float] = time.time) -> None:
        self._client = client
        self._clock = clock

    def describe(self) -> Iterable[GaugeMetricFamily]:
        """The metrics without values, so that a collector can be registered while Redis is away."""
        return _families({}, 0.0, readable=False)

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """The metrics; of an unreachable Redis only that it is."""
        try:
            facts = read_facts(self._client)
        except (RedisError, OSError) as error:
            logger.warning("feature freshness is unknown: %r", error)
            return _families({}, self._clock(), readable=False)
        return _families(facts, self._clock(), readable=True)


def export_freshness(redis_url: str, registry: CollectorRegistry = REGISTRY) -> FreshnessCollector:
    """Adds the freshness of every materialised view to a process's metrics.

    Args:
        redis_url: the online store.
        registry: what the process exports.
    """
    client = redis.Redis.from_url(redis_url, socket_timeout=_TIMEOUT_S, socket_connect_timeout=_TIMEOUT_S)
    collector = FreshnessCollector(client)
    registry.register(collector)
    return collector


def _families(facts: dict[str, ViewFacts], now: float, *, readable: bool) -> list[GaugeMetricFamily]:
    age = GaugeMetricFamily(
        "fraud_feature_freshness_seconds", "Since the newest row of the view became usable.", labels=["view"]
    )
    success = GaugeMetricFamily(
        "fraud_materialization_last_success_timestamp_seconds",
        "When a run last finished the view, with or without anything to write.",
        labels=["view"],
    )
    rows = GaugeMetricFamily(
        "fraud_materialization_last_rows", "Rows that the last run wrote of the view.", labels=["view"]
    )
    for view, fact in facts.items():
        age.add_metric([view], now - fact.newest_us / 1e6)
        success.add_metric([view], fact.finished_us / 1e6)
        rows.add_metric([view], fact.rows)
    up = GaugeMetricFamily("fraud_feature_freshness_up", "Whether Redis told how fresh the features are.", readable)
    return [age, success, rows, up]
