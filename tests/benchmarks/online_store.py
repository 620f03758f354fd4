"""Online stores to read from: a town or a city that has lived for a month, and as many copies of it as wanted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import redis

from feature_repo.batch_features import write_profiles
from feature_repo.event_batch import EventBatch
from feature_repo.event_log import log_days, read_log
from feature_repo.event_schemas import SCORED_EVENT_TYPES
from feature_repo.feast_format import decode_value, encode_bytes_value, entity_keys, hash_field
from feature_repo.graph_features import ID_FIELDS, decode_interactions, encode_interactions
from feature_repo.ingestion import ingest_files
from feature_repo.labels import read_labels
from feature_repo.materialize import materialize
from feature_repo.online.hashes import HashFields
from feature_repo.online.store import store_at
from feature_repo.pseudonyms import ENTITY_KINDS, Pseudonymiser
from feature_repo.settings import EMBEDDING_DIM, FEAST_PROJECT, FeatureSettings
from feature_repo.streaming.rebuild import rebuild
from feature_repo.tiles import ACTIVITY_KINDS
from simulators.ride_hailing import WorldSettings, simulate

EMBEDDING_VERSION = "0123456789ab"
# Of 2,000 entities, and of some 15,000.
TOWN = WorldSettings(days=32, events_per_day=300, riders=200, drivers=40)
CITY = WorldSettings(days=32, events_per_day=1500)
_RECENT = {hash_field(f"{kind}_neighbours", f"{kind}_neighbours_blob") for kind in ENTITY_KINDS}
_HASHES_AT_ONCE = 2000
_EVENTS = 500


@dataclass(frozen=True)
class Place:
    """A simulated place, in Redis and offline.

    Attributes:
        settings: where its store is.
        entities: the join keys and values of each of its entities.
        events: scored events of its last days that have every entity, in no order.
    """

    settings: FeatureSettings
    entities: Sequence[tuple[tuple[str, ...], tuple[str, ...]]]
    events: EventBatch


def simulated(world: WorldSettings, scratch: Path, redis_url: str, version: str = EMBEDDING_VERSION) -> Place:
    """Simulates a place, folds its events into Redis, and materialises its profiles and embeddings of a version."""
    simulate(world, scratch / "world")
    ingest_files(scratch / "world" / "events", scratch / "log", Pseudonymiser(b"a benchmark's key"))
    settings = FeatureSettings(redis_url=redis_url, registry=scratch / "registry.db", offline=scratch / "offline")
    log = read_log(scratch / "log")
    batch = EventBatch.from_arrow(log)
    write_profiles(log, read_labels(scratch / "world" / "labels"), settings.offline)
    midnight = datetime.combine(log_days(scratch / "log")[-1] + timedelta(days=1), time(), UTC)
    _write_embeddings(batch, settings.offline, midnight, version)
    with redis.Redis.from_url(redis_url) as client:
        rebuild(scratch / "log", client, FEAST_PROJECT)
    materialize(settings, midnight)
    whole = np.all([batch.present[name] for name in ID_FIELDS], axis=0)
    scored = np.isin(batch["event_type"].astype(str), SCORED_EVENT_TYPES)
    latest = np.flatnonzero(whole & scored)[-_EVENTS:]
    return Place(settings, _entities(batch), batch.take(np.random.default_rng(0).permutation(latest)))


def copied(events: EventBatch, copy: int) -> EventBatch:
    """The same events of a copy of the place, whose people have other ids."""
    ids = {name: np.array([_moved(text, copy) for text in events[name]], object) for name in ID_FIELDS}
    return EventBatch({**events.columns, **ids}, events.present)


async def write_copies(source: Place, redis_url: str, copies: range) -> int:
    """Writes copies of a place into a Redis; returns how many hashes that makes."""
    with redis.Redis.from_url(source.settings.redis_url) as client:
        pipeline = client.pipeline(transaction=False)
        for names, ids in source.entities:
            pipeline.hgetall(entity_keys(FEAST_PROJECT, names).key(ids))
        hashes = [(_hash_fields(tuple(stored)), stored) for stored in pipeline.execute()]
    store = store_at(redis_url, "redis")
    for copy in copies:
        commands = []
        for (names, ids), (fields, stored) in zip(source.entities, hashes, strict=True):
            key = entity_keys(FEAST_PROJECT, names).key([_moved(text, copy) for text in ids])
            values = [_moved_recent(v, copy) if name in _RECENT else v for name, v in stored.items()]
            commands.append(fields.write(key, values))
        for start in range(0, len(commands), _HASHES_AT_ONCE):
            await store.ask(commands[start : start + _HASHES_AT_ONCE])
    await store.close()
    with redis.Redis.from_url(redis_url) as client:
        return int(client.dbsize())


def _entities(batch: EventBatch) -> list[tuple[tuple[str, ...], tuple[str, ...]]]:
    found: dict[tuple[tuple[str, ...], tuple[str, ...]], None] = {}
    for names in (("city",), *(kind.id_fields for kind in ACTIVITY_KINDS.values())):
        whole = np.all([batch.present[name] for name in names], axis=0)
        columns = [batch[name][whole].tolist() for name in names]
        found |= dict.fromkeys((names, ids) for ids in zip(*columns, strict=True))
    return list(found)


def _write_embeddings(batch: EventBatch, offline: Path, published: datetime, version: str) -> None:
    rng = np.random.default_rng(0)
    for kind in ENTITY_KINDS:
        ids = sorted(set(batch[f"{kind}_id"][batch.present[f"{kind}_id"]].tolist()))
        stamps = pa.array([published] * len(ids), pa.timestamp("us", "UTC"))
        vectors = list(rng.normal(size=(len(ids), EMBEDDING_DIM)).astype(np.float32))
        path = offline / "embeddings" / version / f"{kind}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table({f"{kind}_id": ids, "embedding": vectors, "event_timestamp": stamps}), path)


@cache
def _hash_fields(names: tuple[bytes, ...]) -> HashFields:
    return HashFields(*names)


def _shift(copy: int) -> int:
    """What turns a hash into that of the same person in a copy; nothing for the first."""
    return copy * 0x9E3779B97F4A7C15 % 2**64


def _moved(text: str, copy: int) -> str:
    head, dash, digits = text.partition("-")
    return f"{head}-{int(digits, 16) ^ _shift(copy):016x}" if dash else text


def _moved_recent(message: bytes, copy: int) -> bytes:
    blob = decode_value(message)
    assert isinstance(blob, bytes)
    recent = decode_interactions(blob).copy()
    recent["id"] ^= np.uint64(_shift(copy))
    return encode_bytes_value(encode_interactions(recent))
