"""How a micro-batch of records changes the online state of its entities; pure, shared by the worker and the rebuild.

An entity's state is the fields of its hash in Redis: the number of the last event applied, its tiles, its neighbours,
and the timestamps that Feast keeps beside them. All of them change together, in one HSET.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from feature_repo import real_time_features as rtf
from feature_repo.errors import CorruptValue
from feature_repo.feast_format import (
    decode_value,
    encode_bytes_value,
    encode_timestamp,
    hash_field,
    redis_key,
    sequence_field,
    timestamp_field,
)
from feature_repo.graph_features import INTERACTION
from feature_repo.pseudonyms import ENTITY_KINDS, format_pseudonym
from feature_repo.streaming.records import KIND_NAMES, PAIR
from feature_repo.tiles import ACTIVITY_KINDS

# What an entity's hash holds: sequence, tiles and neighbours, each None where it is absent.
Stored = Sequence[bytes | None]


@dataclass(frozen=True)
class Grouped:
    """Records by entity, and within an entity in stream order.

    Attributes:
        records: RECORD array of shape [m].
        positions: where each record was in the batch given, shape [m].
        entity: whose it is, ascending from 0, shape [m].
        kinds: index into `KIND_NAMES` of each of the e entities, ascending, shape [e].
        first: each entity's first record, shape [e].
    """

    records: NDArray[np.void]
    positions: NDArray[np.int64]
    entity: NDArray[np.int64]
    kinds: NDArray[np.int64]
    first: NDArray[np.int64]

    @classmethod
    def of(cls, records: NDArray[np.void]) -> Grouped:
        """Groups a batch in stream order."""
        is_pair = records["kind"] == PAIR
        other = np.where(is_pair, records["other"], np.uint64(0))
        small = records["kind"].astype(np.int64) << 16 | records["key_id"].astype(np.int64) << 8
        small |= np.where(is_pair, records["other_key_id"], np.uint8(0))
        order = np.lexsort((other, records["id"], small))
        sorted_by = [column[order] for column in (small, records["id"], other)]
        new = np.ones(len(order), np.bool_)
        new[1:] = np.any([column[1:] != column[:-1] for column in sorted_by], axis=0)
        first = np.flatnonzero(new)
        records = records[order]
        return cls(records, order, np.cumsum(new) - 1, records["kind"][first].astype(np.int64), first)

    def keys(self, project: str) -> list[bytes]:
        """The Redis key of each entity's hash."""
        firsts = self.records[self.first]
        columns = (firsts[name].tolist() for name in ("kind", "key_id", "other_key_id", "id", "other"))
        return [
            # Join keys are sorted by name: of a pair, the driver comes before the rider.
            _template(project, kind, key_id, other_key_id) % (other, hash64)
            if kind == PAIR
            else _template(project, kind, key_id, 0) % hash64
            for kind, key_id, other_key_id, hash64, other in zip(*columns, strict=True)
        ]

    def records_of_broken(self, broken: Sequence[str | None]) -> list[int]:
        """The records of entities whose state cannot be read."""
        if not any(broken):
            return []
        of_broken = np.array([why is not None for why in broken])
        return np.flatnonzero(of_broken[self.entity]).tolist()

    def of_kind(self, kind: int) -> slice:
        """The entities of one kind."""
        return slice(*np.searchsorted(self.kinds, (kind, kind + 1)).tolist())


def state_key(project: str, kind: str, keys: tuple[str, ...]) -> bytes:
    """The Redis key of an entity's hash."""
    return redis_key(project, dict(zip(ACTIVITY_KINDS[kind].id_fields, keys, strict=True)))


@cache
def _template(project: str, kind: int, key_id: int, other_key_id: int) -> bytes:
    """What the keys of a kind have in common, with a place for each hash."""
    kinds = ("rider", "driver") if kind == PAIR else (KIND_NAMES[kind],)
    ids = tuple(format_pseudonym(k, i, 0) for k, i in zip(kinds, (key_id, other_key_id), strict=False))
    return state_key(project, KIND_NAMES[kind], ids).replace(b"%", b"%%").replace(b"0" * 16, b"%016x")


def state_fields(kind: str) -> list[bytes]:
    """The hash fields of `Stored`, in its order."""
    return [
        sequence_field(kind),
        hash_field(f"{kind}_tiles", f"{kind}_tiles_blob"),
        hash_field(f"{kind}_neighbours", f"{kind}_neighbours_blob"),
    ]


def written_fields(kind: str) -> list[bytes]:
    """The hash fields of what `fold` returns for the kind, in its order."""
    sequence, tiles, neighbours = state_fields(kind)
    fields = [sequence, tiles, timestamp_field(f"{kind}_tiles")]
    return [*fields, neighbours, timestamp_field(f"{kind}_neighbours")] if kind in ENTITY_KINDS else fields


@dataclass(frozen=True)
class Folded:
    """What became of the e entities of a batch.

    Attributes:
        values: the new values of `written_fields` of each entity; None where nothing changes.
        broken: why the state of an entity cannot be read; None where it can.
        applied: records applied; the others had been applied before, or belong to broken entities.
    """

    values: list[list[bytes] | None]
    broken: list[str | None]
    applied: int


def fold(grouped: Grouped, stored: Sequence[Stored]) -> Folded:
    """Applies every record that its entity has not seen, kind by kind.

    Args:
        grouped: the records of e entities.
        stored: the state of each entity.
    """
    states = _decode(grouped, stored)
    values: list[list[bytes] | None] = [None] * len(stored)
    fresh = _fresh(grouped, states.sequences)
    applied = 0
    for k, kind in enumerate(KIND_NAMES):
        mine = grouped.of_kind(k)
        if mine.start < mine.stop:
            tiles = states.read_tiles(kind, mine)
            sound = np.array([why is None for why in states.broken[mine]])
            chosen = np.arange(*np.searchsorted(grouped.entity, (mine.start, mine.stop)))
            chosen = chosen[fresh[chosen] & sound[grouped.entity[chosen] - mine.start]]
            applied += len(chosen)
            if len(chosen):
                new = _fold_kind(
                    kind, grouped.records[chosen], grouped.entity[chosen] - mine.start, tiles, states.recents[mine]
                )
                for e, value in new:
                    values[e + mine.start] = value
    return Folded(values, states.broken, applied)


def _fold_kind(
    kind: str, records: NDArray[np.void], entity: NDArray[np.int64], tiles: rtf.StoredTiles, recents: list[bytes]
) -> Iterator[tuple[int, list[bytes]]]:
    """The new values of the entities of one kind that have a record; all arguments number them alike."""
    who, entity = np.unique(entity, return_inverse=True)
    folded = rtf.fold(ACTIVITY_KINDS[kind], _renumbered(tiles, who), records, entity)
    starts = np.searchsorted(folded.entity, np.arange(len(who)))
    stamps = map(encode_timestamp, np.maximum.reduceat(folded.latest_us, starts).tolist())
    last = records["stream_seq"][np.searchsorted(entity, np.arange(len(who)), side="right") - 1]
    blobs = map(encode_bytes_value, rtf.encode_blobs(folded, len(who)))
    columns = zip(who.tolist(), last.tolist(), blobs, stamps, strict=True)
    if kind not in ENTITY_KINDS:
        for e, number, blob, stamp in columns:
            yield e, [b"%d" % number, blob, stamp]
        return
    recent = rtf.recent_blobs([recents[e] for e in who.tolist()], records, entity)
    for (e, number, blob, stamp), new in zip(columns, recent, strict=True):
        yield e, [b"%d" % number, blob, stamp, encode_bytes_value(new), stamp]


def _renumbered(tiles: rtf.StoredTiles, who: NDArray[np.int64]) -> rtf.StoredTiles:
    """The tiles of the entities `who`, ascending, which are numbered from 0 in the result."""
    at = np.searchsorted(who, tiles.entity)
    rows = np.append(who, -1)[at] == tiles.entity
    return rtf.StoredTiles(
        at[rows],
        tiles.keys[rows],
        tiles.latest_us[rows],
        tiles.measures[rows],
        tiles.sizes[rows],
        tiles.hashes[np.repeat(rows, tiles.sizes)],
    )


@dataclass(frozen=True)
class _States:
    """The stored state of e entities.

    Attributes:
        sequences: the last event applied, shape [e].
        blobs: tile blobs.
        recents: packed interactions.
        broken: why each cannot be read; None where it can.
    """

    sequences: NDArray[np.int64]
    blobs: list[bytes]
    recents: list[bytes]
    broken: list[str | None]

    def read_tiles(self, kind: str, mine: slice) -> rtf.StoredTiles:
        """The tiles of the entities of one kind, numbered from 0; broken ones are noted."""
        tiles, unreadable = rtf.read_blobs(self.blobs[mine], len(ACTIVITY_KINDS[kind].measures))
        for e in (np.flatnonzero(unreadable) + mine.start).tolist():
            self.broken[e] = self.broken[e] or f"the tiles of a {kind} cannot be read"
        return tiles


def _decode(grouped: Grouped, stored: Sequence[Stored]) -> _States:
    n = len(stored)
    states = _States(np.zeros(n, np.int64), [b""] * n, [b""] * n, [None] * n)
    for e, (sequence, tiles, recent) in enumerate(stored):
        if sequence is None:
            continue
        try:
            states.sequences[e] = int(sequence)
            blob, recents = _bytes(tiles), _bytes(recent) if recent else b""
        except (CorruptValue, ValueError, OverflowError):
            states.broken[e] = f"the state of a {KIND_NAMES[grouped.kinds[e]]} cannot be read"
            continue
        if not blob or len(recents) % INTERACTION.itemsize:
            states.broken[e] = f"a {KIND_NAMES[grouped.kinds[e]]} has no tiles, or half a neighbour"
            continue
        states.blobs[e], states.recents[e] = blob, recents
    return states


def _bytes(message: bytes | None) -> bytes:
    value = decode_value(message)
    if not isinstance(value, bytes):
        raise CorruptValue("a stored value is not bytes")
    return value


def _fresh(grouped: Grouped, sequences: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which records come after everything that their entity has seen, stored or earlier in the batch, shape [m]."""
    numbers = grouped.records["stream_seq"]
    _, rank = np.unique(numbers, return_inverse=True)
    # Ranks of different entities are kept apart, so that one running maximum serves all.
    rank = rank + grouped.entity * (len(numbers) + 1)
    before = np.full(len(numbers), -1)
    before[1:] = np.maximum.accumulate(rank)[:-1]
    fresh: NDArray[np.bool_] = (numbers > sequences[grouped.entity]) & (rank > before)
    return fresh
