"""Our bytes are Feast's bytes: the format module and the reader against the SDK on a real Redis."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import redis
from feast import FeatureStore
from feast.infra.online_stores.helpers import _mmh3, _redis_key
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import FloatList, Value
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from feature_repo.batch_features import write_batch_features
from feature_repo.definitions import definitions
from feature_repo.errors import CorruptValue
from feature_repo.event_batch import EventBatch
from feature_repo.event_log import read_log
from feature_repo.feast_format import (
    decode_value,
    encode_bytes_value,
    encode_timestamp,
    hash_field,
    redis_key,
)
from feature_repo.feature_names import gnn_service
from feature_repo.graph_features import decode_interactions
from feature_repo.labels import read_labels
from feature_repo.materialize import materialize
from feature_repo.online_reader import OnlineReader, StoreRead
from feature_repo.pseudonyms import KIND_LETTERS, parse_pseudonym
from feature_repo.services import ONLINE_SERVICE
from feature_repo.settings import EMBEDDING_DIM, FeatureSettings
from feature_repo.streaming.rebuild import rebuild
from feature_repo.tiles import PackedTiles
from tests.feast_answers import assert_same_features, feast_embeddings, feast_features, online_rows

EMBEDDING_VERSION = "0123456789ab"


@given(st.dictionaries(st.text(min_size=1, max_size=20), st.text(max_size=40), min_size=1, max_size=3))
def test_keys_are_feasts(join_keys: dict[str, str]) -> None:
    proto = EntityKey(
        join_keys=list(join_keys), entity_values=[Value(string_val=value) for value in join_keys.values()]
    )
    assert redis_key("fraud", join_keys) == _redis_key("fraud", proto, 3)


@given(st.text(min_size=1), st.text(min_size=1))
def test_hash_fields_are_feasts(view: str, feature: str) -> None:
    assert hash_field(view, feature) == _mmh3(f"{view}:{feature}")


@given(st.binary(max_size=400), st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False), st.integers(0, 2**60))
def test_values_are_protobufs(blob: bytes, whole: int, real: float, microseconds: int) -> None:
    assert Value.FromString(encode_bytes_value(blob)).bytes_val == blob
    assert decode_value(Value(bytes_val=blob).SerializeToString()) == blob
    assert decode_value(Value(int64_val=whole).SerializeToString()) == whole
    assert decode_value(Value(double_val=real).SerializeToString()) == real
    stamp = Timestamp.FromString(encode_timestamp(microseconds))
    assert stamp.seconds * 1_000_000 + stamp.nanos // 1000 == microseconds


@given(st.lists(st.floats(width=32, allow_nan=False), max_size=40))
def test_float_lists_are_protobufs(numbers: list[float]) -> None:
    value = decode_value(Value(float_list_val=FloatList(val=numbers)).SerializeToString())
    assert isinstance(value, np.ndarray)
    np.testing.assert_array_equal(value, np.array(numbers, np.float32))


@pytest.mark.parametrize("bad", [b"\x0a\xff", b"\x0a", b"\x82\x01\x05\x0a", b"\x9a\x06\x00"])
def test_corrupt_values_are_refused(bad: bytes) -> None:
    with pytest.raises(CorruptValue):
        decode_value(bad)


@pytest.fixture(scope="module")
def offline(small_log: Path, small_world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Feature files of the small log, and embeddings of its riders."""
    out = tmp_path_factory.mktemp("offline")
    log = read_log(small_log)
    write_batch_features(log, read_labels(small_world / "labels"), out)
    rng = np.random.default_rng(0)
    for kind in KIND_LETTERS:
        ids = sorted(i for i in set(log.column(f"{kind}_id").to_pylist()) if i)
        vectors = rng.normal(size=(len(ids), EMBEDDING_DIM)).astype(np.float32)
        table = pa.table(
            {
                f"{kind}_id": ids,
                "embedding": list(vectors),
                "event_timestamp": pa.array([datetime(2026, 1, 13, tzinfo=UTC)] * len(ids), pa.timestamp("us", "UTC")),
            }
        )
        target = out / "embeddings" / EMBEDDING_VERSION / f"{kind}.parquet"
        target.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, target)
    return out


def test_the_reader_returns_what_feast_returns(small_log: Path, offline: Path, redis_url: str, tmp_path: Path) -> None:
    settings = FeatureSettings(redis_url=redis_url, registry=tmp_path / "registry.db", offline=offline)
    with redis.Redis.from_url(redis_url) as client:
        rebuild(small_log, client, "fraud")
    materialize(settings, datetime(2026, 1, 13, tzinfo=UTC))
    log = read_log(small_log)
    events = EventBatch.from_arrow(log.slice(len(log) - 200, 200))
    # Some hours later, when windows have begun to empty and everybody has an age.
    later = {**events.columns, "event_timestamp": events["event_timestamp"] + 20 * 3_600_000_000}
    batch = EventBatch(later, events.present)

    async def ours() -> tuple[StoreRead, tuple[np.ndarray, np.ndarray]]:
        reader = OnlineReader(redis_url, timeout_s=5)
        read = await reader.read(batch)
        parsed = [parse_pseudonym(i) for i in batch["rider_id"]]
        ids, keys = np.array([h for _, h in parsed], np.uint64), np.array([k for k, _ in parsed])
        found = await reader.embeddings(EMBEDDING_VERSION, np.zeros(len(ids), int), ids, keys, EMBEDDING_DIM)
        await reader.close()
        return read, found

    read, (embeddings, known) = asyncio.run(ours())
    store = FeatureStore(config=settings.repo_config())
    theirs = feast_features(store, store.get_feature_service(ONLINE_SERVICE), online_rows(batch))
    assert_same_features(read, theirs, batch)
    for name in ("rider_requests_30d", "driver_riders_7d", "pair_trips_30d", "device_age_s", "rider_lifetime_trips"):
        assert len(set(read.features[name])) > 3, name
    for name in ("rider_confirmed_frauds", "device_days_since_fraud"):
        assert len(set(read.features[name])) > 1, name
    assert np.isfinite(read.norms.fare_per_km).all()
    assert (read.interaction_counts[:, 0] > 1).any()
    riders = {
        f"{kind}_id": batch["rider_id"].tolist() if kind == "rider" else [""] * len(batch) for kind in KIND_LETTERS
    }
    vectors = feast_embeddings(store, EMBEDDING_VERSION, riders)
    assert known.all()
    np.testing.assert_array_equal(embeddings, vectors["rider_id"])


def test_feast_reads_the_tiles_that_the_worker_writes_and_knows_a_stranger(
    small_log: Path, offline: Path, redis_url: str, tmp_path: Path
) -> None:
    settings = FeatureSettings(redis_url=redis_url, registry=tmp_path / "registry.db", offline=offline)
    with redis.Redis.from_url(redis_url) as client:
        rebuild(small_log, client, "fraud")
    store = FeatureStore(config=settings.repo_config())
    store.apply(definitions(offline))
    log = read_log(small_log)
    rider, driver = next(
        pair
        for pair in zip(log.column("rider_id").to_pylist(), log.column("driver_id").to_pylist(), strict=True)
        if all(pair)
    )
    stranger = "r1-" + "0" * 16
    answer = store.get_online_features(
        features=["rider_tiles:rider_tiles_blob", "pair_tiles:pair_tiles_blob"],
        entity_rows=[{"rider_id": rider, "driver_id": driver}, {"rider_id": stranger, "driver_id": driver}],
    ).to_dict()
    (known, unknown), (pair, no_pair) = answer["rider_tiles_blob"], answer["pair_tiles_blob"]
    events = sum(r == rider for r in log.column("rider_id").to_pylist())
    tiles = PackedTiles.read(known)
    assert 0 < tiles.measures[tiles.keys >> 32 == 86_400, 0].sum() <= events
    assert len(PackedTiles.read(pair).keys)
    assert unknown is None
    assert no_pair is None


def test_the_service_of_a_graph_model_gives_its_neighbours_and_its_embeddings(
    small_log: Path, offline: Path, redis_url: str, tmp_path: Path
) -> None:
    settings = FeatureSettings(redis_url=redis_url, registry=tmp_path / "registry.db", offline=offline)
    with redis.Redis.from_url(redis_url) as client:
        rebuild(small_log, client, "fraud")
    materialize(settings, datetime(2026, 1, 13, tzinfo=UTC))
    batch = EventBatch.from_arrow(read_log(small_log))
    complete = np.flatnonzero(np.all([batch.present[f"{kind}_id"] for kind in KIND_LETTERS], axis=0))[-1]
    store = FeatureStore(config=settings.repo_config())
    answer = store.get_online_features(
        store.get_feature_service(gnn_service(EMBEDDING_VERSION)),
        [{f"{kind}_id": batch[f"{kind}_id"][complete] for kind in KIND_LETTERS}],
        full_feature_names=True,
    ).to_dict()
    ids = {f"{kind}_id" for kind in KIND_LETTERS}
    assert answer.keys() - ids == {
        *(f"{kind}_neighbours__{kind}_neighbours_blob" for kind in KIND_LETTERS),
        *(f"{kind}_embedding_{EMBEDDING_VERSION}__embedding" for kind in KIND_LETTERS),
    }
    for name in answer.keys() - ids:
        (value,) = answer[name]
        assert len(value) == EMBEDDING_DIM if name.endswith("embedding") else decode_interactions(value).size


def test_a_store_that_is_down_gives_nan_and_no_neighbours() -> None:
    from simulators.local_services import free_port

    async def read() -> object:
        reader = OnlineReader(f"redis://127.0.0.1:{free_port()}", timeout_s=0.2)
        rows = [{"event_id": "e", "event_type": "account_changed", "event_timestamp": 1, "rider_id": "r1-" + "0" * 16}]
        result = await reader.read(EventBatch.from_rows([{**rows[0], "device_id": "v1-" + "0" * 16, "city": "tehran"}]))
        await reader.close()
        return result

    result = asyncio.run(read())
    assert not result.available  # type: ignore[attr-defined]
    assert all(np.isnan(v).all() for v in result.features.values())  # type: ignore[attr-defined]


def test_an_idle_entity_window_empties(small_log: Path, redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        rebuild(small_log, client, "fraud")
    log = read_log(small_log)
    last = EventBatch.from_arrow(log.slice(len(log) - 1, 1))
    later = dict(last.columns)
    later["event_timestamp"] = last["event_timestamp"] + int(timedelta(days=31).total_seconds() * 1e6)

    async def requests() -> list[float]:
        reader = OnlineReader(redis_url, timeout_s=5)
        reads = [await reader.read(b) for b in (last, EventBatch(later, last.present))]
        await reader.close()
        return [float(r.features["rider_requests_30d"][0]) for r in reads]

    now, after = asyncio.run(requests())
    assert now > 0
    assert after == 0
