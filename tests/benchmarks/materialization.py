"""Materialisation against Feast's own: an empty store, one new day, and nothing new; the same files, the same Redis.

The peer is what a cron job without a memory does: `materialize` of everything in Feast's default configuration.
It reads each row's stored timestamp, and writes what is newer. Both stores are compared before anything is timed.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import redis
from feast import FeatureStore
from rich.console import Console

from feature_repo.definitions import definitions
from feature_repo.feature_names import PROFILE_KINDS
from feature_repo.materialize import batch_views, materialize
from feature_repo.settings import FeatureSettings
from pipelines.report import Row
from simulators.local_services import RedisServer
from tests.benchmarks.rounds import compared, in_turn

ENTITIES = 50_000
_DAYS = 10
_ACTIVE_SHARE = 0.2
_ROUNDS = 5
_FIRST = datetime(2026, 1, 5, tzinfo=UTC)
_LAST = _FIRST + timedelta(days=_DAYS - 1)
_LONG_AGO = datetime(1970, 1, 2, tzinfo=UTC)


class _Store:
    """An offline store of `entities` riders, a fifth of whom appear on each day, and a Redis."""

    def __init__(self, folder: Path, redis_url: str, entities: int) -> None:
        self.redis = redis.Redis.from_url(redis_url)
        self.settings = FeatureSettings(redis_url=redis_url, registry=folder / "ours.db", offline=folder / "offline")
        config = self.settings.model_copy(update={"registry": folder / "theirs.db"}).repo_config()
        self._feast = FeatureStore(config=config)
        _write_files(self.settings.offline, entities)
        objects = definitions(self.settings.offline)
        self._feast.apply(objects)
        self._views = [view.name for view in batch_views(objects)]

    def ours(self, until: datetime) -> None:
        materialize(self.settings, until)

    def theirs(self, until: datetime) -> None:
        with redirect_stdout(StringIO()):
            self._feast.materialize(_LONG_AGO, until, feature_views=self._views)

    def after(self, run: Callable[[datetime], None], *days: datetime) -> float:
        """Seconds that the run of the last day takes, after those of the days before it, on an empty store."""
        self.redis.flushall()
        for day in days[:-1]:
            run(day)
        started = time.perf_counter()
        run(days[-1])
        return time.perf_counter() - started

    def content(self) -> dict[bytes, dict[bytes, bytes]]:
        return {key: self.redis.hgetall(key) for key in self.redis.keys("*") if not key.startswith(b"{fraud}")}


def run(entities: int = ENTITIES) -> list[Row]:
    """Measures five rounds of each case after one in which the stores are compared."""
    cases = {
        "an empty store": (_LAST,),
        "one new day": (_LAST - timedelta(days=1), _LAST),
        "nothing new": (_LAST, _LAST),
    }
    rows = []
    with (
        tempfile.TemporaryDirectory() as folder,
        RedisServer(Path(folder) / "redis") as server,
        Console(stderr=True).status(f"{entities:,} entities, {_ROUNDS} rounds of {len(cases)} cases"),
    ):
        store = _Store(Path(folder), server.url, entities)
        for name, days in cases.items():
            contents = []
            for side in (store.ours, store.theirs):
                store.after(side, *days)
                contents.append(store.content())
            assert contents[0] == contents[1]
            found = compared(
                *in_turn(
                    _ROUNDS,
                    lambda days=days: store.after(store.ours, *days),  # type: ignore[misc]
                    lambda days=days: store.after(store.theirs, *days),  # type: ignore[misc]
                )
            )
            title = f"materialise {entities:,} entities, {name}"
            rows += [
                Row(f"{title}, ours", found.ours_s, "s"),
                Row(f"{title}, Feast's materialize", found.peer_s, "s"),
                Row(f"{title}, ours against Feast's", found.ratio, "times"),
            ]
    return rows


def _write_files(offline: Path, entities: int) -> None:
    """The files of all profile views: many riders, ten of every other kind, three cities."""
    offline.mkdir(parents=True)
    rng = np.random.default_rng(0)
    days = [_FIRST + timedelta(days=day) for day in range(_DAYS)]
    for kind in PROFILE_KINDS:
        count = entities if kind == "rider" else 10
        # Everybody appears on the first day, and some on each later one.
        active = [np.arange(count), *(np.flatnonzero(rng.random(count) < _ACTIVE_SHARE) for _ in days[1:])]
        numbers = np.concatenate(active)
        stamps = [day for day, rows in zip(days, active, strict=True) for _ in rows]
        columns = {
            f"{kind}_id": [f"{kind[0]}1-{n:016x}" for n in numbers],
            "event_timestamp": pa.array(stamps, pa.timestamp("us", "UTC")),
            f"{kind}_first_seen_us": pa.array(numbers),
            f"{kind}_lifetime_trips": pa.array(rng.integers(0, 500, len(numbers))),
            f"{kind}_confirmed_frauds": pa.array(rng.integers(0, 5, len(numbers))),
            f"{kind}_last_fraud_us": pa.array(numbers),
        }
        pq.write_table(pa.table(columns), offline / f"{kind}_profile.parquet")
    norms = {f"city_{name}": rng.random(3 * _DAYS) for name in ("fare_per_km", "speed_kmh", "gps_accuracy_m")}
    stamps = pa.array([day for day in days for _ in range(3)], pa.timestamp("us", "UTC"))
    cities = {"city": ["tehran", "isfahan", "shiraz"] * _DAYS, "event_timestamp": stamps}
    pq.write_table(pa.table(cities | norms), offline / "city_profile.parquet")
