"""A Prometheus histogram for the event loop's thread: without locks, and a whole batch at a time where there is one."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray
from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector


class BatchHistogram(Collector):
    """Series of one name.

    Args:
        name: of the metric.
        documentation: what it measures.
        labelnames: names of the labels.
        buckets: upper bounds, rising; infinity is added.
        registry: what the process exports.
    """

    def __init__(
        self,
        name: str,
        documentation: str,
        labelnames: Sequence[str],
        buckets: Sequence[float],
        registry: CollectorRegistry = REGISTRY,
    ) -> None:
        self._name = name
        self._documentation = documentation
        self._labelnames = tuple(labelnames)
        self._bounds = (*buckets, math.inf)
        self._series: dict[tuple[str, ...], Series] = {}
        registry.register(self)

    def labels(self, **labels: str) -> Series:
        """The series with these labels."""
        key = tuple(labels[name] for name in self._labelnames)
        return self._series.setdefault(key, Series(self._bounds))

    def describe(self) -> Iterable[HistogramMetricFamily]:
        """The metric without values, by which a registry finds a name that is taken."""
        return [HistogramMetricFamily(self._name, self._documentation, labels=self._labelnames)]

    def collect(self) -> Iterable[HistogramMetricFamily]:
        """The metric."""
        family = HistogramMetricFamily(self._name, self._documentation, labels=self._labelnames)
        names = [*(str(float(bound)) for bound in self._bounds[:-1]), "+Inf"]
        for key, series in self._series.items():
            family.add_metric(key, list(zip(names, accumulate(series.counts), strict=True)), series.total)
        return [family]


class Series:
    """The values with the same labels; for one thread, that of the event loop.

    Attributes:
        counts: values in each bucket, not cumulated.
        total: their sum.
    """

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._edges = np.array(bounds)
        self.counts = [0] * len(bounds)
        self.total = 0.0

    def observe_one(self, value: float) -> None:
        """Counts a number."""
        self.counts[bisect_left(self._bounds, value)] += 1
        self.total += value

    def observe(self, values: NDArray[Any]) -> None:
        """Counts any number of values; those that are not numbers are left out."""
        # numpy's overhead is that of some twenty values.
        if len(values) <= _FEW:
            for value in values.tolist():
                if not math.isnan(value):
                    self.observe_one(value)
            return
        known = values[~np.isnan(values)]
        found = np.bincount(np.searchsorted(self._edges, known), minlength=len(self.counts))
        self.counts = (found + self.counts).tolist()
        self.total += float(known.sum())


_FEW = 16
