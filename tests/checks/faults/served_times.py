"""What a service says of its own times: `fraud_request_seconds`, less what of it was refused."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import httpx
from prometheus_client.parser import text_string_to_metric_families

from tests.small_stack import Service

_PATIENCE_S = 30.0


@dataclass(frozen=True)
class ServedTimes:
    """Counts of a time.

    Attributes:
        below: requests that took no longer, by a bucket's upper bound in seconds.
        taken: those that were answered with 200.
    """

    below: Mapping[float, float]
    taken: float

    def __sub__(self, before: ServedTimes) -> ServedTimes:
        """What has come since."""
        return ServedTimes({s: n - before.below[s] for s, n in self.below.items()}, self.taken - before.taken)

    def taken_ms(self, share: float) -> tuple[float, float]:
        """Between which bounds a percentile of what was taken on lies.

        What was refused is in the same buckets, and is what took the shortest.
        """
        rank = self.below[math.inf] - (1 - share) * self.taken
        bounds = sorted(self.below)
        upper = next(bound for bound in bounds if self.below[bound] >= rank)
        return max((1000 * bound for bound in bounds if bound < upper), default=0.0), 1000 * upper


def scrape(service: Service) -> ServedTimes:
    """Of all requests over REST so far."""
    text = httpx.get(f"http://127.0.0.1:{service.port}/metrics", timeout=_PATIENCE_S).text
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    rest = [sample for sample in samples if sample.labels.get("protocol") == "rest"]
    below = {float(one.labels["le"]): one.value for one in rest if one.name == "fraud_request_seconds_bucket"}
    taken = sum(one.value for one in rest if one.name == "fraud_requests_total" and one.labels["outcome"] == "ok")
    return ServedTimes(below, taken)
