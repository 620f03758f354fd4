"""Reads the features of a batch of events from Redis, in Feast's format, one pipelined round trip per hop.

A stored value that cannot be read counts as absent, so that it costs one entity its past and no event its answer.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import redis.asyncio as aioredis
from numpy.typing import NDArray
from prometheus_client import Counter
from redis.exceptions import RedisError

from feature_repo.errors import CorruptValue, StoreUnavailable
from feature_repo.event_batch import EventBatch
from feature_repo.event_schemas import EVENT_TYPES
from feature_repo.feast_format import FeastValue, decode_value, hash_field, redis_key
from feature_repo.feature_names import STORE_FEATURES
from feature_repo.graph_features import INTERACTION, K_NEIGHBOURS, decode_interactions
from feature_repo.profiles import profile_features
from feature_repo.pseudonyms import ENTITY_KINDS, format_pseudonym
from feature_repo.request_features import CityNorms
from feature_repo.tiles import ACTIVITY_KINDS, ActivityKind, PackedTiles, nothing_done

Vector = NDArray[np.float64]
CORRUPT = Counter("fraud_corrupt_values", "Stored values that could not be read and count as absent.", ["value"])
log = logging.getLogger("fraud")
_told: set[str] = set()
_NORMS = ("city_fare_per_km", "city_speed_kmh", "city_gps_accuracy_m")


@dataclass(frozen=True)
class StoreRead:
    """What the online store knows about n events.

    Attributes:
        available: False when the store did not answer; then every feature is NaN and nobody has neighbours.
        features: `STORE_FEATURES` by name, each of shape [n].
        norms: the norms of each event's city.
        interactions: INTERACTION array of shape [n, 4, K], most recent first.
        interaction_counts: how many of the K exist, shape [n, 4].
    """

    available: bool
    features: dict[str, Vector]
    norms: CityNorms
    interactions: NDArray[np.void]
    interaction_counts: NDArray[np.int64]

    @classmethod
    def nothing(cls, n: int) -> StoreRead:
        """The read of a store that is down."""
        return cls(
            False,
            {name: np.full(n, np.nan) for name in STORE_FEATURES},
            CityNorms.unknown(n),
            np.zeros((n, len(ENTITY_KINDS), K_NEIGHBOURS), INTERACTION),
            np.zeros((n, len(ENTITY_KINDS)), np.int64),
        )


@dataclass(frozen=True)
class _Lookup:
    """One hash to read: which fields of which key, for which rows of the batch."""

    key: bytes
    fields: tuple[bytes, ...]


class OnlineReader:
    """Reads Feast's Redis layout directly.

    Args:
        url: `redis://` or `rediss://` address, with credentials where the server wants them.
        project: the Feast project.
        timeout_s: the longest that one hop may take.
    """

    def __init__(self, url: str, project: str = "fraud", timeout_s: float = 0.02) -> None:
        self._project = project
        self._timeout_s = timeout_s
        self._redis: Any = aioredis.Redis.from_url(url, socket_connect_timeout=max(timeout_s, 0.05))

    async def close(self) -> None:
        """Closes the connections."""
        await self._redis.aclose()

    async def ping(self) -> bool:
        """Whether the store answers in time."""
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._redis.ping()
        except (RedisError, OSError, TimeoutError):
            return False
        return True

    async def read(self, batch: EventBatch) -> StoreRead:
        """Reads everything but embeddings; `StoreRead.nothing` when the store does not answer in time."""
        n = len(batch)
        plan = _Plan(self._project)
        for row in range(n):
            plan.add(batch, row)
        try:
            values = await self._hmget(plan.lookups)
        except StoreUnavailable:
            return StoreRead.nothing(n)
        return plan.assemble(batch, values)

    async def embeddings(
        self, version: str, kinds: NDArray[Any], ids: NDArray[Any], key_ids: NDArray[Any], dim: int
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Reads the stage 1 embeddings of m entities.

        Args:
            version: graph model version, as in the view's name.
            kinds: index into `ENTITY_KINDS`, shape [m].
            ids: 64-bit hashes, shape [m].
            key_ids: pseudonym key ids, shape [m].
            dim: numbers per embedding.

        Returns:
            Embeddings [m, dim], zeros where the entity has none, and a 1.0/0.0 mask [m] of those that have.

        Raises:
            StoreUnavailable: Redis did not answer in time.
        """
        lookups = []
        for kind_code, hash64, key_id in zip(kinds.tolist(), ids.tolist(), key_ids.tolist(), strict=True):
            kind = ENTITY_KINDS[kind_code]
            key = redis_key(self._project, {f"{kind}_id": format_pseudonym(kind, key_id, hash64)})
            lookups.append(_Lookup(key, (hash_field(f"{kind}_embedding_{version}", "embedding"),)))
        result = np.zeros((len(lookups), dim), np.float32)
        known = np.zeros(len(lookups), np.float32)
        for row, (value,) in enumerate(await self._hmget(lookups)):
            if isinstance(value, np.ndarray) and len(value) == dim:
                result[row], known[row] = value, 1.0
        broken = ~np.isfinite(result).all(axis=1)
        if broken.any():
            result[broken], known[broken] = 0.0, 0.0
            _count_corrupt("embedding", "it holds a number that is not finite", int(broken.sum()))
        return result, known

    async def _hmget(self, lookups: Sequence[_Lookup]) -> list[list[FeastValue]]:
        if not lookups:
            return []
        pipeline = self._redis.pipeline(transaction=False)
        for lookup in lookups:
            pipeline.hmget(lookup.key, lookup.fields)
        try:
            async with asyncio.timeout(self._timeout_s):
                answers = await pipeline.execute()
        except (RedisError, OSError, TimeoutError) as error:
            raise StoreUnavailable(f"the online store did not answer: {error!r}") from error
        return [[_value(v) for v in answer] for answer in answers]


def _value(message: bytes | None) -> FeastValue:
    try:
        return decode_value(message)
    except CorruptValue as error:
        _count_corrupt("message", error)
        return None


def _count_corrupt(value: str, problem: object, times: int = 1) -> None:
    """Counts values that cannot be read; one line for the first of a sort, for a sick store would flood the log."""
    CORRUPT.labels(value).inc(times)
    if value not in _told:
        _told.add(value)
        log.warning("a stored %s is treated as absent, and so will others be: %s", value, problem)


class _Plan:
    """Which hashes a batch needs, each once, and how their values become the batch's features."""

    def __init__(self, project: str) -> None:
        self._project = project
        self.lookups: list[_Lookup] = []
        self._positions: dict[tuple[str, ...], int] = {}
        self._rows: list[dict[str, int]] = []

    def add(self, batch: EventBatch, row: int) -> None:
        """Plans the reads of one event."""
        mine: dict[str, int] = {}
        for kind, activity in ACTIVITY_KINDS.items():
            if all(batch.present[name][row] for name in activity.id_fields):
                keys = {name: str(batch[name][row]) for name in activity.id_fields}
                mine[kind] = self._position(kind, keys)
        mine["city"] = self._position("city", {"city": str(batch["city"][row])})
        self._rows.append(mine)

    def _position(self, kind: str, keys: dict[str, str]) -> int:
        identity = (kind, *keys.values())
        if identity not in self._positions:
            self._positions[identity] = len(self.lookups)
            self.lookups.append(_Lookup(redis_key(self._project, keys), _FIELDS[kind]))
        return self._positions[identity]

    def assemble(self, batch: EventBatch, values: list[list[FeastValue]]) -> StoreRead:
        """Turns the answers, in the order of `lookups`, into features as of each event."""
        read = StoreRead.nothing(len(batch))
        timestamps = batch["event_timestamp"]
        for activity in ACTIVITY_KINDS.values():
            numbers = self._activity(activity, values, timestamps)
            read.features.update(zip(activity.feature_names(), numbers.T, strict=True))
        for slot, kind in enumerate(ENTITY_KINDS):
            self._recent(kind, values, read.interactions[:, slot], read.interaction_counts[:, slot])
            read.features.update(self._profile(kind, values, timestamps))
        _drop_corrupt(read.interactions, read.interaction_counts)
        norms = (read.norms.fare_per_km, read.norms.speed_kmh, read.norms.gps_accuracy_m)
        for row, mine in enumerate(self._rows):
            for column, norm in zip(norms, values[mine["city"]], strict=True):
                if isinstance(norm, float):
                    column[row] = norm
        return StoreRead(True, read.features, read.norms, read.interactions, read.interaction_counts)

    def _activity(
        self, activity: ActivityKind, values: list[list[FeastValue]], timestamps: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """Window features of one kind, shape [n, features]."""
        result = np.tile(nothing_done(activity), (len(self._rows), 1))
        packed: dict[int, PackedTiles | None] = {}
        for row, mine in enumerate(self._rows):
            position = mine.get(activity.name)
            blob = None if position is None else values[position][0]
            if position is None or not isinstance(blob, bytes):
                continue
            if position not in packed:
                packed[position] = _tiles(blob, activity)
            tiles = packed[position]
            if tiles is not None:
                result[row] = tiles.values_at(int(timestamps[row]), distinct=activity.distinct is not None)
        return result

    def _recent(
        self,
        kind: str,
        values: list[list[FeastValue]],
        interactions: NDArray[np.void],
        counts: NDArray[np.int64],
    ) -> None:
        """Fills in the neighbours of one kind of entity, [n, K] and [n]."""
        for row, mine in enumerate(self._rows):
            blob = values[mine[kind]][1] if kind in mine else None
            if isinstance(blob, bytes):
                try:
                    recent = decode_interactions(blob)[:K_NEIGHBOURS]
                except CorruptValue as error:
                    _count_corrupt("neighbourhood", error)
                    continue
                interactions[row, : len(recent)] = recent
                counts[row] = len(recent)

    def _profile(self, kind: str, values: list[list[FeastValue]], timestamps: NDArray[np.int64]) -> dict[str, Vector]:
        stored = [values[mine[kind]][2:] if kind in mine else (None, None) for mine in self._rows]
        # A varint can hold more than 64 bits.
        first_seen = np.array(
            [seen if isinstance(seen, int) and 0 <= seen < 2**63 else -1 for seen, _ in stored], np.int64
        )
        trips = np.array([count if isinstance(count, int) else 0 for _, count in stored], np.float64)
        return profile_features(kind, first_seen, trips, timestamps)


def _tiles(blob: bytes, activity: ActivityKind) -> PackedTiles | None:
    try:
        return PackedTiles.read(blob, len(activity.measures))
    except CorruptValue as error:
        _count_corrupt("tiles", error)
        return None


def _drop_corrupt(interactions: NDArray[np.void], counts: NDArray[np.int64]) -> None:
    """Empties, in place, the neighbourhoods [n, 4, K] that hold what no event can have done."""
    impossible = (interactions["kind"] >= len(ENTITY_KINDS)) | (interactions["event_type"] >= len(EVENT_TYPES))
    broken = (impossible | (interactions["amount"] < 0)).any(axis=-1)
    if broken.any():
        interactions[broken], counts[broken] = np.zeros((), INTERACTION), 0
        _count_corrupt("neighbourhood", "it names a kind or an amount that does not exist", int(broken.sum()))


def _fields() -> dict[str, tuple[bytes, ...]]:
    fields: dict[str, tuple[bytes, ...]] = {
        kind: (hash_field(f"{kind}_tiles", f"{kind}_tiles_blob"),) for kind in ACTIVITY_KINDS
    }
    for kind in ENTITY_KINDS:
        fields[kind] += (
            hash_field(f"{kind}_neighbours", f"{kind}_neighbours_blob"),
            hash_field(f"{kind}_profile", f"{kind}_first_seen_us"),
            hash_field(f"{kind}_profile", f"{kind}_lifetime_trips"),
        )
    return {**fields, "city": tuple(hash_field("city_profile", name) for name in _NORMS)}


# The fields to read of each kind's hash: tiles, then neighbours, first seen, lifetime trips.
_FIELDS = _fields()
