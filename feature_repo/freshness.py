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

from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from feature_repo.materialization_ledger import AWAY, ViewFacts, ledger_client, read_facts
from feature_repo.settings import RedisType

# The scraper's own patience is 10 s; a metrics page without these numbers is better than none.
_TIMEOUT_S = 2.0

logger = logging.getLogger(__name__)


class FreshnessCollector(Collector):
    """Reads the ledger of materialisation at every scrape.

    Args:
        connect: makes a synchronous Redis client that returns bytes; called at the first scrape that finds Redis there.
        clock: seconds since the epoch.
    """

    def __init__(self, connect: Callable[[], Any], clock: Callable[[], float] = time.time) -> None:
        self._connect = connect
        self._client: Any = None
        self._clock = clock

    def describe(self) -> Iterable[GaugeMetricFamily]:
        """The metrics without values, so that a collector can be registered while Redis is away."""
        return _families({}, 0.0, readable=False)

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """The metrics; of an unreachable Redis only that it is."""
        try:
            if self._client is None:
                self._client = self._connect()
            facts = read_facts(self._client)
        except AWAY as error:
            logger.warning("feature freshness is unknown: %r", error)
            return _families({}, self._clock(), readable=False)
        return _families(facts, self._clock(), readable=True)


def export_freshness(
    redis_url: str, redis_type: RedisType = "redis", registry: CollectorRegistry = REGISTRY
) -> FreshnessCollector:
    """Adds the freshness of every materialised view to a process's metrics.

    Args:
        redis_url: the online store.
        redis_type: whether that is one server or a cluster.
        registry: what the process exports.
    """
    collector = FreshnessCollector(lambda: ledger_client(redis_url, redis_type, _TIMEOUT_S))
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
