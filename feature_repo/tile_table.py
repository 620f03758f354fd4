"""The tiles of many entities in one table, over which a few array operations reach all of them."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from feature_repo.errors import CorruptValue, OnCorrupt
from feature_repo.tiles import ACTIVITY_KINDS, KEY_BITS, PackedTiles

Ints = NDArray[np.int64]

# A row is a key, the latest event, and as many measures as the kind that has most. A kind with fewer reads on into its
# next row, in columns that no feature uses.
WIDTH = 2 + max(len(kind.measures) for kind in ACTIVITY_KINDS.values())
# The position of a blob stands above the bits of its tiles' keys in 63 bits.
MOST_BLOBS = 2 ** (63 - KEY_BITS) - 2

_HEAD = struct.Struct("<HI")
_ZEROS = bytes(8 * WIDTH)


@dataclass(frozen=True, slots=True)
class KindTiles:
    """The tiles of one kind of entity.

    Attributes:
        blobs: of m entities, None for one without a past.
        rows: which of the m entities each of the n events has, -1 for none.
    """

    blobs: Sequence[bytes | None]
    rows: Sequence[int]


@dataclass(frozen=True, slots=True)
class TileTable:
    """The T tiles of all blobs, one after the other, and before them an empty one.

    Attributes:
        keys: position of the blob, from 1, << KEY_BITS | key, ascending, without the empty tile, shape [T].
        latest: latest event of each, shape [1 + T].
        sums: running sums of the columns, shape [1 + T, WIDTH]; measures from the third on, the others mean nothing.
        ends: where the sketch of each ends in `hashes`, shape [1 + T].
        hashes: all sketches.
    """

    keys: Ints
    latest: Ints
    sums: Ints
    ends: Ints
    hashes: NDArray[np.uint64]

    @classmethod
    def of(cls, tiles: Mapping[str, KindTiles], on_corrupt: OnCorrupt) -> Self:
        """Lays out at most MOST_BLOBS blobs of all kinds, in the order of `ACTIVITY_KINDS`.

        Args:
            tiles: for every kind.
            on_corrupt: told of every blob that cannot be read; it counts as None.
        """
        try:
            return cls._read({kind: tiles[kind].blobs for kind in ACTIVITY_KINDS})
        except (CorruptValue, struct.error):
            return cls._read({kind: _sound(kind, tiles[kind].blobs, on_corrupt) for kind in ACTIVITY_KINDS})

    @classmethod
    def _read(cls, blobs: Mapping[str, Sequence[bytes | None]]) -> Self:
        """Raises CorruptValue or struct.error when one is not a tile blob of its kind."""
        shapes = [1, WIDTH, 0]
        tables, sizes, hashes = [_ZEROS], [b"\0\0"], []
        for kind, of_kind in blobs.items():
            measures = len(ACTIVITY_KINDS[kind].measures)
            for blob in of_kind:
                if blob is None:
                    shapes += (0, 0, 0)
                    continue
                found, count = _HEAD.unpack_from(blob)
                sizes_at = _HEAD.size + 8 * count * (2 + measures)
                hashes_at = sizes_at + 2 * count
                left = len(blob) - hashes_at
                if found != measures or left < 0 or left % 8:
                    raise CorruptValue
                shapes += (count, 2 + measures, left // 8)
                tables.append(blob[_HEAD.size : sizes_at])
                sizes.append(blob[sizes_at:hashes_at])
                hashes.append(blob[hashes_at:])
        tables.append(_ZEROS)
        return cls._lay_out(np.array(shapes).reshape(-1, 3).T, *map(b"".join, (tables, sizes, hashes)))

    @classmethod
    def _lay_out(cls, shapes: Ints, tables: bytes, sizes: bytes, hashes: bytes) -> Self:
        """`shapes` has the number of tiles, their width and the number of hashes of each blob."""
        count, width, n_hashes = shapes
        widths = np.repeat(width, count)
        every_start = np.ndarray((len(tables) // 8 - WIDTH + 1, WIDTH), "<i8", tables, 0, (8, 8))
        rows = every_start[np.cumsum(widths) - widths]
        blob = np.repeat(np.arange(len(count)), count)
        keys = rows[:, 0] + (blob << KEY_BITS)
        ends = np.cumsum(np.frombuffer(sizes, "<u2"), dtype=np.int64)
        last = np.cumsum(count) - 1
        if (
            (keys[1:] <= keys[:-1]).any()
            or (keys >> KEY_BITS != blob).any()
            or (np.diff(ends[last]) != n_hashes[1:]).any()
        ):
            raise CorruptValue
        latest = rows[:, 1].copy()
        # In place: for a table that is larger than the allocator keeps at hand, new pages cost more than the sums.
        sums = np.cumsum(rows, axis=0, out=rows)
        return cls(keys[1:], latest, sums, ends, np.frombuffer(hashes, "<u8"))


def positions(tiles: Mapping[str, KindTiles]) -> Ints:
    """Position, from 1, of the blob of each event and kind, shape [n, kinds]; one past the last for none."""
    none = 1 + sum(len(given.blobs) for given in tiles.values())
    found, first = [], 1
    for kind in ACTIVITY_KINDS:
        found.append([first + row if row >= 0 else none for row in tiles[kind].rows])
        first += len(tiles[kind].blobs)
    return np.array(found).T


def _sound(kind: str, blobs: Sequence[bytes | None], on_corrupt: OnCorrupt) -> list[bytes | None]:
    sound: list[bytes | None] = []
    for blob in blobs:
        try:
            if blob is not None:
                PackedTiles.read(blob, len(ACTIVITY_KINDS[kind].measures))
        except CorruptValue as error:
            on_corrupt("tiles", error)
            sound.append(None)
        else:
            sound.append(blob)
    return sound
