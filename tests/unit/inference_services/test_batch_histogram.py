"""A batch counts as its values would one by one in prometheus_client's histogram."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram, generate_latest

from inference_services.batch_histogram import BatchHistogram

BUCKETS = (0.01, 0.1, 0.5, 1, 3600)
VALUES = st.one_of(st.sampled_from([0.0, *map(float, BUCKETS), float("nan")]), st.floats(-10, 10_000, width=32))


def pages(batches: list[list[float]]) -> tuple[list[str], list[str]]:
    """What both export of the same values, without the time at which theirs began."""
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    batch = BatchHistogram("scores", "Scores.", ["model"], BUCKETS, ours).labels(model="m")
    single = Histogram("scores", "Scores.", ["model"], buckets=BUCKETS, registry=theirs).labels("m")
    for values in batches:
        batch.observe(np.array(values))
        for value in values:
            if not math.isnan(value):
                single.observe(value)
    found = (generate_latest(registry).decode().splitlines() for registry in (ours, theirs))
    first, second = ([line for line in page if "_created" not in line] for page in found)
    return first, second


@given(st.lists(st.lists(VALUES, max_size=40), max_size=4))
@settings(max_examples=60, deadline=None)
def test_batches_count_as_single_values(batches: list[list[float]]):
    ours, theirs = pages(batches)
    sums = [float(next(line for line in page if "_sum" in line).split()[1]) for page in (ours, theirs)]
    assert sums[0] == pytest.approx(sums[1], rel=1e-6, abs=1e-6)
    assert [line for line in ours if "_sum" not in line] == [line for line in theirs if "_sum" not in line]


def test_a_name_is_taken_once():
    registry = CollectorRegistry()
    BatchHistogram("scores", "Scores.", [], BUCKETS, registry)
    with pytest.raises(ValueError, match="Duplicated timeseries"):
        BatchHistogram("scores", "Scores.", [], BUCKETS, registry)
