"""Nothing that arrives later changes a feature of an earlier event, offline or online; and both agree on any log."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import redis
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from feature_repo.asof_store import Source, asof_join
from feature_repo.batch_features import write_batch_features
from feature_repo.event_batch import EventBatch
from feature_repo.event_schemas import SCORED_EVENT_TYPES
from feature_repo.feature_names import PROFILE_KINDS
from feature_repo.graph_features import neighbour_history
from feature_repo.historical import assemble
from feature_repo.labels import no_labels
from feature_repo.profiles import stored_descriptions
from feature_repo.tiles import ACTIVITY_FEATURES, ACTIVITY_KINDS
from feature_repo.views import CITY_NORMS
from simulators.local_services import RedisServer
from tests.offline_stores import entity_rows
from tests.parity.lockstep import Online, replay
from tests.parity.logs import Drawn, events, later_events, log_of, traffic_of
from tests.parity.week import KEY

Log = Sequence[Drawn]
LOGS = st.lists(events(), min_size=1, max_size=16)
HEADS = st.lists(later_events(), min_size=1, max_size=10)
TAILS = st.lists(later_events(), max_size=6)


@pytest.fixture(scope="module")
def own_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server.url


def offline(log: Log) -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
    """The training frame of a log's scored events, and what each saw of its neighbourhood: [n, 4, K] and [n, 4]."""
    table = log_of(traffic_of(log), KEY)
    is_scored = pc.is_in(table["event_type"], value_set=pa.array(SCORED_EVENT_TYPES))
    scored, rows = table.filter(is_scored), np.flatnonzero(is_scored.to_numpy())
    with tempfile.TemporaryDirectory() as folder:
        write_batch_features(table, no_labels(), Path(folder))
        joined = asof_join(entity_rows(scored), "event_timestamp", sources(Path(folder))).to_pandas()
    history, counts = neighbour_history(EventBatch.from_arrow(table))
    return assemble(scored, joined), history[rows], counts[rows]


def sources(files: Path) -> list[Source]:
    """What the training service joins."""

    def source(name: str, key: str, features: Sequence[str]) -> Source:
        return Source(str(files / f"{name}.parquet"), "event_timestamp", (key,), tuple(features))

    profiles = [f"{kind}_profile" for kind in PROFILE_KINDS]
    return [
        *(source(f"{k}_activity_history", "event_id", kind.feature_names()) for k, kind in ACTIVITY_KINDS.items()),
        *(
            source(name, f"{kind}_id", [*stored_descriptions(kind)])
            for kind, name in zip(PROFILE_KINDS, profiles, strict=True)
        ),
        source("city_profile", "city", list(CITY_NORMS)),
    ]


def online(log: Log, redis_url: str) -> Online:
    """What serving knew about a log's scored events, from an empty store without midnights."""

    async def midnight(_: int) -> None:
        return

    with redis.Redis.from_url(redis_url) as client:
        client.flushall()
    return asyncio.run(replay(traffic_of(log), redis_url, KEY, midnight, lambda _done, _total: None))


def scored(log: Log) -> int:
    return sum(d.event_type in SCORED_EVENT_TYPES for d in log)


@settings(max_examples=20, deadline=None)
@given(HEADS, TAILS, TAILS)
def test_later_events_change_nothing_that_training_is_given(head: Log, tail: Log, other: Log) -> None:
    n = scored(head)
    assume(n)
    (frame, history, counts), (frame_2, history_2, counts_2) = offline([*head, *tail]), offline([*head, *other])
    pd.testing.assert_frame_equal(frame[:n], frame_2[:n], check_exact=True)
    assert history[:n].tobytes() == history_2[:n].tobytes()
    np.testing.assert_array_equal(counts[:n], counts_2[:n])


@settings(max_examples=20, deadline=None)
@given(HEADS, TAILS, TAILS)
def test_later_events_change_nothing_that_serving_reads(own_redis: str, head: Log, tail: Log, other: Log) -> None:
    n = scored(head)
    assume(n)
    one, two = online([*head, *tail], own_redis).read, online([*head, *other], own_redis).read
    for name, values in one.features.items():
        np.testing.assert_array_equal(values[:n], two.features[name][:n], err_msg=name)
    assert one.interactions[:n].tobytes() == two.interactions[:n].tobytes()
    np.testing.assert_array_equal(one.interaction_counts[:n], two.interaction_counts[:n])


@settings(max_examples=40, deadline=None)
@given(LOGS)
def test_serving_and_training_agree_on_any_log(own_redis: str, log: Log) -> None:
    assume(scored(log))
    read = online(log, own_redis).read
    frame, history, counts = offline(log)
    for name in ACTIVITY_FEATURES:
        np.testing.assert_allclose(read.features[name], frame[name], rtol=0, atol=1e-9, err_msg=name)
    assert read.interactions.tobytes() == history.tobytes()
    np.testing.assert_array_equal(read.interaction_counts, counts)
