"""The streaming side of the activity features: folds a micro-batch of records into the tiles of its entities.

The same function as `batch_features` computes offline, one array operation for the whole batch instead of a loop over
events: the new events become one-event tiles, lie down beside the stored ones, and tiles of one key are added up.
Addition and bottom-k unions know no order, so a batch may be cut anywhere and leaves the same bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from feature_repo.event_schemas import EVENT_TYPES
from feature_repo.graph_features import INTERACTION, K_NEIGHBOURS
from feature_repo.pseudonyms import ENTITY_KINDS
from feature_repo.streaming.records import interactions
from feature_repo.tiles import ACTIVITY_KINDS, MICROSECONDS, RETENTION_S, SKETCH_K, ActivityKind

Ints = NDArray[np.int64]
_TILE_S = np.array(sorted(RETENTION_S))
_KEEP_S = np.array([RETENTION_S[int(s)] for s in _TILE_S])
# Tile indices take 32 bits; the rank of the tile's length goes above them, the entity above that.
_INDEX = (1 << 32) - 1
_ENTITY_SHIFT = 34


@dataclass(frozen=True)
class StoredTiles:
    """The tiles of several entities, one row each, by entity and then by key.

    Attributes:
        entity: whose tile it is, ascending, shape [t].
        keys: (tile length << 32 | tile index), ascending within an entity, shape [t].
        latest_us: latest event, shape [t].
        measures: shape [t, measures].
        sizes: hashes in each tile's sketch, shape [t].
        hashes: all sketches, one after the other.
    """

    entity: Ints
    keys: Ints
    latest_us: Ints
    measures: Ints
    sizes: Ints
    hashes: NDArray[np.uint64]


def read_blobs(blobs: Sequence[bytes], n_measures: int) -> tuple[StoredTiles, NDArray[np.bool_]]:
    """Reads the tile blobs of several entities at once.

    Args:
        blobs: what `encode_blobs` wrote, or nothing for an entity without tiles.
        n_measures: how many measures a tile must have.

    Returns:
        The tiles, and which blobs are broken, shape [len(blobs)]; broken ones have no tiles.
    """
    width, head = 2 + n_measures, n_measures.to_bytes(2, "little")
    counts, rows, sizes, hashes = [0] * len(blobs), [], [], []
    broken = np.zeros(len(blobs), np.bool_)
    hash_bytes = np.zeros(len(blobs), np.int64)
    for i, blob in enumerate(blobs):
        if not blob:
            continue
        n = int.from_bytes(blob[2:6], "little")
        sizes_at = 6 + 8 * n * width
        hashes_at = sizes_at + 2 * n
        if blob[:2] != head or len(blob) < hashes_at or n == 0:
            broken[i] = True
            continue
        counts[i], hash_bytes[i] = n, len(blob) - hashes_at
        rows.append(blob[6:sizes_at])
        sizes.append(blob[sizes_at:hashes_at])
        hashes.append(blob[hashes_at:])
    table = np.frombuffer(b"".join(rows), "<i8").reshape(-1, width)
    entity = np.repeat(np.arange(len(blobs)), counts)
    of_sketch = np.frombuffer(b"".join(sizes), "<u2").astype(np.int64)
    announced = np.bincount(entity, of_sketch, len(blobs)).astype(np.int64) * 8
    wrong = announced != hash_bytes
    unordered = (np.diff(table[:, 0]) <= 0) & (np.diff(entity) == 0)
    wrong[entity[1:][unordered]] = True
    wrong[entity[~np.isin(table[:, 0] >> 32, _TILE_S)]] = True
    if wrong.any():
        given = [b"" if bad else blob for blob, bad in zip(blobs, wrong | broken, strict=True)]
        return read_blobs(given, n_measures)[0], wrong | broken
    stored = np.frombuffer(b"".join(hashes), "<u8")
    return StoredTiles(entity, table[:, 0], table[:, 1], table[:, 2:], of_sketch, stored), broken


def fold(kind: ActivityKind, stored: StoredTiles, records: NDArray[np.void], entity: Ints) -> StoredTiles:
    """Adds events to the tiles of their entities and forgets the tiles that an entity's latest event has outlived.

    The clock that trims is the entity's own, so that the same events leave the same bytes whenever they are folded.

    Args:
        kind: what is measured.
        stored: the tiles so far.
        records: RECORD array of shape [m], the new events, each once.
        entity: whose they are, shape [m]; every entity of `stored` has a record.
    """
    new = _one_event_tiles(kind, records, entity)
    code = np.concatenate([_code(stored.entity, stored.keys), new.code])
    order = np.argsort(code, kind="stable")
    code = code[order]
    starts = np.flatnonzero(np.concatenate([[True], code[1:] != code[:-1]]))
    group_of = np.empty(len(order), np.int64)
    group_of[order] = np.repeat(np.arange(len(starts)), np.diff([*starts, len(order)]))
    latest = np.maximum.reduceat(np.concatenate([stored.latest_us, new.latest_us])[order], starts)
    measures = np.add.reduceat(np.concatenate([stored.measures, new.measures])[order], starts)
    code = code[starts]
    kept = _alive(code, latest)
    groups = np.repeat(np.arange(len(stored.keys)), stored.sizes)
    at = np.concatenate([group_of[groups], group_of[len(stored.keys) + new.with_hash]])
    sizes, hashes = _sketches(at, np.concatenate([stored.hashes, new.hashes]), kept)
    return StoredTiles(code[kept] >> _ENTITY_SHIFT, _key(code[kept]), latest[kept], measures[kept], sizes, hashes)


@dataclass(frozen=True)
class _NewTiles:
    code: Ints
    latest_us: Ints
    measures: Ints
    with_hash: Ints
    hashes: NDArray[np.uint64]


def _one_event_tiles(kind: ActivityKind, records: NDArray[np.void], entity: Ints) -> _NewTiles:
    """A tile of every length for each event: rows by event and then by length, shape [3 m]."""
    lengths = len(_TILE_S)
    seconds = records["timestamp_us"] // MICROSECONDS
    index = seconds[:, None] // _TILE_S
    code = entity[:, None] << _ENTITY_SHIFT | np.arange(lengths) << 32 | index
    measures = _INCREMENTS[kind.name][records["event_type"]]
    sums = [i for i, m in enumerate(kind.measures) if m.op == "sum"]
    measures[:, sums] *= records["amount"][:, None]
    counted = np.zeros(len(records), np.bool_)
    if kind.counterpart is not None:
        counted = records["other_kind"] == ENTITY_KINDS.index(kind.counterpart.removesuffix("_id"))
    return _NewTiles(
        code.ravel(),
        np.repeat(records["timestamp_us"], lengths),
        np.repeat(measures, lengths, axis=0),
        (np.flatnonzero(counted)[:, None] * lengths + np.arange(lengths)).ravel(),
        np.repeat(records["other"][counted], lengths),
    )


def _code(entity: Ints, keys: Ints) -> Ints:
    """(entity, rank of the tile's length, tile index) in one number that sorts like the three."""
    result: Ints = entity << _ENTITY_SHIFT | np.searchsorted(_TILE_S, keys >> 32) << 32 | keys & _INDEX
    return result


def _key(code: Ints) -> Ints:
    result: Ints = _TILE_S[code >> 32 & 3] << 32 | code & _INDEX
    return result


def _alive(code: Ints, latest_us: Ints) -> NDArray[np.bool_]:
    """Which tiles their entity's latest event has not outlived, shape [g]."""
    entity = code >> _ENTITY_SHIFT
    starts = np.flatnonzero(np.concatenate([[True], entity[1:] != entity[:-1]]))
    now = np.repeat(np.maximum.reduceat(latest_us, starts), np.diff([*starts, len(entity)])) // MICROSECONDS
    rank = code >> 32 & 3
    alive: NDArray[np.bool_] = (code & _INDEX) >= (now - _KEEP_S[rank]) // _TILE_S[rank]
    return alive


def _sketches(group: Ints, hashes: NDArray[np.uint64], kept: NDArray[np.bool_]) -> tuple[Ints, NDArray[np.uint64]]:
    """The k smallest distinct hashes of each kept group, ascending: their number by group, and all of them."""
    mine = kept[group]
    group, hashes = group[mine], hashes[mine]
    order = np.lexsort((hashes, group))
    group, hashes = group[order], hashes[order]
    first = np.ones(len(group), np.bool_)
    first[1:] = (group[1:] != group[:-1]) | (hashes[1:] != hashes[:-1])
    group, hashes = group[first], hashes[first]
    count = np.bincount(group, minlength=len(kept))
    rank = np.arange(len(group)) - np.repeat(np.cumsum(count) - count, count)
    return np.minimum(count, SKETCH_K)[kept], hashes[rank < SKETCH_K]


def encode_blobs(tiles: StoredTiles, entities: int) -> list[bytes]:
    """Packs the tiles of each entity: u2 measures, u4 count, then per tile i8[2 + measures] (key, latest, measures),
    u2 sketch sizes and the sketches' u8 hashes. Little-endian, tiles and hashes in ascending order.
    """
    n_measures = tiles.measures.shape[1]
    table = np.empty((len(tiles.keys), 2 + n_measures), "<i8")
    table[:, 0], table[:, 1], table[:, 2:] = tiles.keys, tiles.latest_us, tiles.measures
    rows, sizes, hashes = table.tobytes(), tiles.sizes.astype("<u2").tobytes(), tiles.hashes.astype("<u8").tobytes()
    width = 8 * (2 + n_measures)
    ends = np.searchsorted(tiles.entity, np.arange(entities + 1))
    hash_ends = np.concatenate([[0], np.cumsum(tiles.sizes)])[ends]
    head = n_measures.to_bytes(2, "little")
    return [
        b"".join(
            (
                head,
                (end - start).to_bytes(4, "little"),
                rows[start * width : end * width],
                sizes[2 * start : 2 * end],
                hashes[8 * from_hash : 8 * to_hash],
            )
        )
        for (start, end), (from_hash, to_hash) in zip(
            pairwise(ends.tolist()), pairwise(hash_ends.tolist()), strict=True
        )
    ]


def recent_blobs(stored: Sequence[bytes], records: NDArray[np.void], entity: Ints) -> list[bytes]:
    """The K latest interactions of each entity, most recent first: the new ones in front of the stored ones.

    Args:
        stored: packed INTERACTION records of each entity.
        records: the new events by entity and then in stream order, shape [m].
        entity: whose they are, ascending, shape [m]; every entity has one at least.
    """
    backwards = interactions(records[::-1]).tobytes()
    size, longest = INTERACTION.itemsize, INTERACTION.itemsize * K_NEIGHBOURS
    ends = len(records) - np.searchsorted(entity, np.arange(len(stored) + 1))
    return [
        (backwards[size * start : size * end] + old)[:longest]
        for (end, start), old in zip(pairwise(ends.tolist()), stored, strict=True)
    ]


# Which measures of a kind an event of each type counts in, shape [event types, measures].
_INCREMENTS = {
    kind.name: np.array([[int(t in m.event_types) for m in kind.measures] for t in EVENT_TYPES])
    for kind in ACTIVITY_KINDS.values()
}
