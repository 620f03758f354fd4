"""How much waits in the streams, for Prometheus and for whoever scales the workers or deals with dead letters.

Read from Redis at every scrape, so that it is known of partitions that nobody owns, too. Every worker exports the same:
take the `max by (partition)`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Any

from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from feature_repo.materialization_ledger import AWAY, ledger_client
from feature_repo.settings import RedisType
from feature_repo.streaming.keys import DEAD_LETTERS, LOG_STREAM, PARTITIONS, checkpoint_key, partition_stream

_TIMEOUT_S = 2.0
_STREAMS = [*map(partition_stream, range(PARTITIONS)), LOG_STREAM]

# KEYS: streams and their checkpoints in turn, and the dead letters. A stream is trimmed by whole nodes, so that a few
# entries that are done still stand before its checkpoint.
_WAITING = """
local waiting = {}
for i = 1, #KEYS - 1, 2 do
  local length, last = redis.call('XLEN', KEYS[i]), redis.call('GET', KEYS[i + 1])
  if last then length = length - #redis.call('XRANGE', KEYS[i], '-', last) end
  waiting[#waiting + 1] = length
end
waiting[#waiting + 1] = redis.call('XLEN', KEYS[#KEYS])
return waiting
"""

logger = logging.getLogger(__name__)


class StreamLagCollector(Collector):
    """Counts what waits at every scrape.

    Args:
        connect: makes a synchronous Redis client; called at the first scrape that finds Redis there.
    """

    def __init__(self, connect: Callable[[], Any]) -> None:
        self._connect = connect
        self._client: Any = None

    def describe(self) -> Iterable[GaugeMetricFamily]:
        """The metrics without values, so that a collector can be registered while Redis is away."""
        return _families(None)

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """The metrics; none while Redis is away, for zero would scale the workers down."""
        try:
            if self._client is None:
                self._client = self._connect()
            keys = [key for stream in _STREAMS for key in (stream, checkpoint_key(stream))]
            return _families(self._client.eval(_WAITING, len(keys) + 1, *keys, DEAD_LETTERS))
        except AWAY as error:
            logger.warning("the streams' lag is unknown: %r", error)
            return _families(None)


def export_stream_lag(redis_url: str, redis_type: RedisType, registry: CollectorRegistry = REGISTRY) -> None:
    """Adds what waits in the streams of a Redis to a process's metrics."""
    registry.register(StreamLagCollector(lambda: ledger_client(redis_url, redis_type, _TIMEOUT_S)))


def _families(waiting: list[int] | None) -> list[GaugeMetricFamily]:
    records = GaugeMetricFamily(
        "fraud_stream_lag_records", "Records of the partition that are not applied yet.", labels=["partition"]
    )
    events = GaugeMetricFamily("fraud_event_log_lag_events", "Events that are not in the event log yet.")
    letters = GaugeMetricFamily("fraud_dead_letters", "Dead letters that nobody has dealt with yet.")
    if waiting is not None:
        for partition in range(PARTITIONS):
            records.add_metric([str(partition)], waiting[partition])
        events.add_metric([], waiting[PARTITIONS])
        letters.add_metric([], waiting[PARTITIONS + 1])
    return [records, events, letters]
