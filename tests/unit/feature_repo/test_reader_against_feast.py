"""The reader returns what `FeatureStore.get_online_features` returns, whatever is stored, missing, null or expired."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import redis
from feast import FeatureStore
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import FloatList, Value
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from feature_repo.definitions import definitions
from feature_repo.event_batch import EventBatch
from feature_repo.feast_format import redis_key
from feature_repo.graph_features import INTERACTION, K_NEIGHBOURS, encode_interactions
from feature_repo.online_reader import OnlineReader, StoreRead
from feature_repo.pseudonyms import ENTITY_KINDS, format_pseudonym
from feature_repo.services import ONLINE_SERVICE
from feature_repo.settings import EMBEDDING_DIM, KEY_TTL_SECONDS, FeatureSettings
from feature_repo.tiles import ACTIVITY_KINDS
from simulators.local_services import RedisServer
from tests.feast_answers import Answer, assert_same_features, feast_embeddings, feast_features, online_rows
from tests.unit.feature_repo.tile_oracle import PlainTiles

NOW_US = 1_770_000_123_456_789
HOUR_US = 3_600_000_000
VERSION = "0123456789ab"
WRITTEN = datetime(2026, 2, 2, tzinfo=UTC)
# So few that events share entities, and that most combinations occur.
IDS = {kind: [format_pseudonym(kind, 1, 2**63 + i) for i in range(2)] for kind in ENTITY_KINDS}
CITIES = ("tehran", "شیراز")


@dataclass(frozen=True)
class Stored:
    """What one entity has in one view.

    Attributes:
        view: the view.
        keys: the entity.
        values: the features that were ever written; the others are missing.
    """

    view: str
    keys: Mapping[str, str]
    values: Mapping[str, Value]


def tiles(kind: str) -> st.SearchStrategy[bytes]:
    measures = len(ACTIVITY_KINDS[kind].measures)
    counterpart = st.integers(0, 2**64 - 1) if ACTIVITY_KINDS[kind].distinct else st.none()
    past = st.tuples(
        st.integers(NOW_US - 800 * HOUR_US, NOW_US),
        st.lists(st.integers(0, 10**9), min_size=measures, max_size=measures),
        counterpart,
    )

    def pack(pasts: list[Any]) -> bytes:
        packed = PlainTiles(measures)
        for one in pasts:
            packed.add(*one)
        return packed.blob()

    return st.lists(past, max_size=5).map(pack)


def interactions() -> st.SearchStrategy[bytes]:
    one = st.tuples(
        st.integers(0, 2**64 - 1),
        st.integers(0, 3),
        st.integers(1, 255),
        st.integers(0, 6),
        *[st.integers(0, NOW_US)] * 2,
    )
    return st.lists(one, max_size=K_NEIGHBOURS).map(lambda past: encode_interactions(np.array(past, INTERACTION)))


def values() -> dict[str, dict[str, st.SearchStrategy[Value]]]:
    """By view and feature, a value of each type that the views use."""
    blobs = {
        **{f"{kind}_tiles": {f"{kind}_tiles_blob": tiles(kind)} for kind in ACTIVITY_KINDS},
        **{f"{kind}_neighbours": {f"{kind}_neighbours_blob": interactions()} for kind in ENTITY_KINDS},
    }
    found = {
        view: {name: blob.map(lambda b: Value(bytes_val=b)) for name, blob in fields.items()}
        for view, fields in blobs.items()
    }
    vector = st.lists(st.floats(-1e9, 1e9, width=32), min_size=EMBEDDING_DIM, max_size=EMBEDDING_DIM)
    for kind in ENTITY_KINDS:
        found[f"{kind}_profile"] = {
            f"{kind}_first_seen_us": st.integers(0, NOW_US + HOUR_US).map(lambda n: Value(int64_val=n)),
            f"{kind}_lifetime_trips": st.integers(-(2**63), 2**63 - 1).map(lambda n: Value(int64_val=n)),
            f"{kind}_confirmed_frauds": st.integers(-(2**63), 2**63 - 1).map(lambda n: Value(int64_val=n)),
            f"{kind}_last_fraud_us": st.integers(-1, NOW_US + HOUR_US).map(lambda n: Value(int64_val=n)),
        }
        found[f"{kind}_embedding_{VERSION}"] = {
            "embedding": vector.map(lambda v: Value(float_list_val=FloatList(val=v)))
        }
    names = ("city_fare_per_km", "city_speed_kmh", "city_gps_accuracy_m")
    found["city_profile"] = {name: st.floats().map(lambda x: Value(double_val=x)) for name in names}
    return found


VALUES = values()
NULL = st.just(Value())  # what Feast writes for None


def entities_of(view: str) -> list[dict[str, str]]:
    kind = next(k for k in ("payment_instrument", "rider", "driver", "device", "pair", "city") if view.startswith(k))
    if kind == "city":
        return [{"city": city} for city in CITIES]
    if kind == "pair":
        return [{"rider_id": r, "driver_id": d} for r in IDS["rider"] for d in IDS["driver"]]
    return [{f"{kind}_id": i} for i in IDS[kind]]


@st.composite
def stores(draw: st.DrawFn) -> list[Stored]:
    """Some of the entities have some of the features, and some of these are null."""
    stored = []
    for view, fields in VALUES.items():
        for keys in entities_of(view):
            given_values = {
                name: draw(st.one_of(strategy, NULL))
                for name, strategy in fields.items()
                if draw(st.integers(0, 3), label="present")
            }
            if given_values and draw(st.integers(0, 3)):
                stored.append(Stored(view, keys, given_values))
    return stored


def events() -> st.SearchStrategy[list[dict[str, Any]]]:
    event = st.fixed_dictionaries(
        {
            "event_id": st.just("e"),
            "event_type": st.just("trip_requested"),
            "event_timestamp": st.integers(NOW_US - 30 * HOUR_US, NOW_US),
            "rider_id": st.sampled_from(IDS["rider"]),
            "device_id": st.sampled_from(IDS["device"]),
            "city": st.sampled_from(CITIES),
        },
        optional={
            "driver_id": st.sampled_from(IDS["driver"]),
            "payment_instrument_id": st.sampled_from(IDS["payment_instrument"]),
        },
    )
    return st.lists(event, min_size=1, max_size=5)


class Both:
    """Feast and the reader over the same Redis."""

    def __init__(self, server: RedisServer, folder: Path) -> None:
        offline = folder / "offline"
        (offline / "embeddings" / VERSION).mkdir(parents=True)
        config = FeatureSettings(redis_url=server.url, registry=folder / "registry.db", offline=offline)
        self._store = FeatureStore(config=config.repo_config())
        self._store.apply(definitions(offline))
        self._service = self._store.get_feature_service(ONLINE_SERVICE)
        self._views = {view.name: view for view in self._store.list_feature_views()}
        self.redis = redis.Redis.from_url(server.url)
        self._runner = asyncio.Runner()
        self._reader = OnlineReader(server.url, timeout_s=10)

    def close(self) -> None:
        self._runner.run(self._reader.close())
        self._runner.close()
        self.redis.close()

    def write(self, stored: list[Stored]) -> None:
        """Writes with Feast's own code."""
        self.redis.flushall()
        provider = self._store._get_provider()
        for one in stored:
            key = EntityKey(
                join_keys=sorted(one.keys), entity_values=[Value(string_val=one.keys[k]) for k in sorted(one.keys)]
            )
            row = [(key, dict(one.values), WRITTEN, None)]
            provider.online_write_batch(self._store.config, self._views[one.view], row, None)

    def expire(self, keys: Mapping[str, str]) -> None:
        """Lets the entity's key_ttl_seconds pass."""
        key = redis_key("fraud", keys)
        assert self.redis.ttl(key) in {-2, *range(KEY_TTL_SECONDS - 60, KEY_TTL_SECONDS + 1)}
        self.redis.pexpire(key, 1)
        while self.redis.exists(key):
            time.sleep(0.001)

    def ours(self, batch: EventBatch) -> StoreRead:
        return self._runner.run(self._reader.read(batch))

    def theirs(self, batch: EventBatch) -> Answer:
        return feast_features(self._store, self._service, online_rows(batch))

    def embeddings(self) -> tuple[Any, list[Any]]:
        """Ours and theirs, of all entities, by kind; each once more."""
        pairs = [(code, hash64) for code in range(len(ENTITY_KINDS)) for hash64 in (2**63, 2**63 + 1, 2**63)]
        kinds, ids = np.array([c for c, _ in pairs]), np.array([h for _, h in pairs], np.uint64)
        read = self._reader.embeddings(VERSION, kinds, ids, np.ones(len(ids), int), EMBEDDING_DIM)
        rows = {f"{kind}_id": [*IDS[kind], IDS[kind][0]] for kind in ENTITY_KINDS}
        found = feast_embeddings(self._store, VERSION, rows)
        theirs = [vector for kind in ENTITY_KINDS for vector in found[f"{kind}_id"]]
        return self._runner.run(read), theirs


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    folder = tmp_path_factory.mktemp("both")
    with RedisServer(folder / "redis") as server:
        pair = Both(server, folder)
        yield pair
        pair.close()


# Without shrinking, which would take minutes of writes to Redis.
@settings(
    max_examples=40,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow],
)
@given(stored=stores(), rows=events(), data=st.data())
def test_the_reader_returns_what_feast_returns(
    both: Both, stored: list[Stored], rows: list[dict[str, Any]], data: st.DataObject
) -> None:
    both.write(stored)
    for one in stored:
        if not data.draw(st.integers(0, 7), label="kept"):
            both.expire(one.keys)
    batch = EventBatch.from_rows(rows)
    assert_same_features(both.ours(batch), both.theirs(batch), batch)
    (vectors, known), theirs = both.embeddings()
    assert known.tolist() == [vector is not None for vector in theirs]
    np.testing.assert_array_equal(vectors, [[0.0] * EMBEDDING_DIM if v is None else v for v in theirs])
