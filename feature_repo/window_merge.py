"""Window features out of tile blobs, for all entities and all events of a batch at once.

The online reader and the on-demand view both call `window_features`, so that they cannot differ. What a window means is
said in `tiles.py`. The number of array operations does not depend on the number of entities: the tiles of all blobs lie
in one table, one binary search finds every window, and prefix sums, exact in 64-bit integers, give every count and sum.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from feature_repo.distinct_pairs import distinct_pairs
from feature_repo.errors import OnCorrupt
from feature_repo.tile_table import MOST_BLOBS, WIDTH, Ints, KindTiles, TileTable, positions
from feature_repo.tiles import ACTIVITY_KINDS, KEY_BITS, LONGEST_WINDOW_S, MICROSECONDS, SKETCH_K, WINDOWS

# One event has at most one blob of each kind.
_MOST_EVENTS = MOST_BLOBS // len(ACTIVITY_KINDS)
# Keys and instants are not summed: their columns hold these two features instead.
_DISTINCT, _AGE = 0, 1

_TILE_S = np.array([window.tile_s for window in WINDOWS])
_FIRST_KEY = _TILE_S << 32
_SPAN = np.array([(window.tiles, 0) for window in WINDOWS])
_LONGEST = max(range(len(WINDOWS)), key=lambda w: WINDOWS[w].length_s)


def window_features(tiles: Mapping[str, KindTiles], as_of_us: Ints, on_corrupt: OnCorrupt) -> NDArray[np.float64]:
    """Merges the tiles of n events' entities as of each event.

    Args:
        tiles: for every kind of `ACTIVITY_KINDS`.
        as_of_us: the instants of the events, microseconds, shape [n].
        on_corrupt: told of every blob that cannot be read; its entity counts as one without a past.

    Returns:
        `ACTIVITY_FEATURES` as rows, shape [features, n].
    """
    n = len(as_of_us)
    if max(n, *(len(given.blobs) for given in tiles.values())) > _MOST_EVENTS:
        parts = [slice(at, at + _MOST_EVENTS) for at in range(0, n, _MOST_EVENTS)]
        return np.hstack([window_features(_part(tiles, part), as_of_us[part], on_corrupt) for part in parts])
    return _merge(TileTable.of(tiles, on_corrupt), positions(tiles), as_of_us)


def _part(tiles: Mapping[str, KindTiles], part: slice) -> dict[str, KindTiles]:
    """The tiles of some of the events, each event with blobs of its own."""
    blobs = {
        kind: [given.blobs[row] if row >= 0 else None for row in given.rows[part]] for kind, given in tiles.items()
    }
    return {kind: KindTiles(mine, range(len(mine))) for kind, mine in blobs.items()}


def _merge(table: TileTable, blob: Ints, as_of_us: Ints) -> NDArray[np.float64]:
    newest = _FIRST_KEY + (as_of_us // MICROSECONDS)[:, None] // _TILE_S
    bounds = (newest[:, :, None] - _SPAN)[:, None] + (blob << KEY_BITS)[:, :, None, None]
    # How many tiles lie before each window, and up to its end: shape [n, kinds, windows, 2].
    found = np.searchsorted(table.keys, bounds.reshape(-1), side="right").reshape(bounds.shape)
    sums = table.sums[found]
    values = (sums[..., 1, :] - sums[..., 0, :]).astype(np.float64)
    values[..., _DISTINCT] = _distinct(table, found.reshape(-1, 2)).reshape(found.shape[:-1])
    # A tile's events are later than those of the tiles before it, so the window's last tile has the latest.
    first, end = found[..., _LONGEST, 0], found[..., _LONGEST, 1]
    age = np.maximum(as_of_us[:, None] - table.latest[end], 0) / MICROSECONDS
    values[..., _LONGEST, _AGE] = np.where(end > first, age, LONGEST_WINDOW_S)
    result: NDArray[np.float64] = values.reshape(len(as_of_us), -1).T[_COLUMNS]
    return result


def _distinct(table: TileTable, found: Ints) -> NDArray[np.float64]:
    """How many distinct hashes the sketches of each of w windows hold, shape [w]; `found` as in `_merge`, [w, 2]."""
    start, end = table.ends[found].T
    lengths = end - start
    until = np.cumsum(lengths)
    window = np.repeat(np.arange(len(found), dtype=np.uint16), lengths)
    hashes = table.hashes[np.arange(len(window)) + np.repeat(end - until, lengths)]
    order, new = distinct_pairs(window, hashes)
    counts = np.bincount(window[new], minlength=len(found))
    result = counts.astype(np.float64)
    large = np.flatnonzero(counts >= SKETCH_K)
    if len(large):
        kth = hashes[order[new]][(np.cumsum(counts) - counts)[large] + SKETCH_K - 1]
        result[large] = (SKETCH_K - 1) / (kth / 2.0**64)
    return result


def _columns() -> Ints:
    """Where each of `ACTIVITY_FEATURES` lies in the merged values [kinds, windows, WIDTH]."""
    places = []
    for k, kind in enumerate(ACTIVITY_KINDS.values()):
        for column in (*range(2, 2 + len(kind.measures)), *([_DISTINCT] if kind.distinct else [])):
            places += [(k, window, column) for window in range(len(WINDOWS))]
        places.append((k, _LONGEST, _AGE))
    shape = (len(ACTIVITY_KINDS), len(WINDOWS), WIDTH)
    found: Ints = np.ravel_multi_index(tuple(np.array(places).T), shape)
    return found


_COLUMNS = _columns()
