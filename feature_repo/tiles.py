"""Windowed activity of an entity, kept as tiles and merged as of a request.

A tile counts what one entity did in one aligned slice of time; a window of W seconds in tiles of s seconds, seen at
instant t, is the tiles with floor(t/s) - W/s < index <= floor(t/s). Tiles merge by addition, so order does not matter
and an idle entity's window empties by itself (the design of Chronon and Tecton). Distinct counterparts are bottom-k
sketches (Bar-Yossef et al. 2002, "Counting distinct elements in a data stream"): exact below k.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from feature_repo.errors import CorruptValue

SKETCH_K = 256
MICROSECONDS = 1_000_000
# A tile is known by its length << 32 | its index.
KEY_BITS = 49

# Tile length in seconds -> how long its tiles are kept. An event later than 25 hours still lands in its day's tile;
# the short windows as of such an old instant may then be incomplete.
RETENTION_S: Mapping[int, int] = {300: 26 * 3600, 3600: 50 * 3600, 86_400: 33 * 86_400}


@dataclass(frozen=True, slots=True)
class Window:
    """A window of `length_s` seconds made of tiles of `tile_s` seconds."""

    name: str
    length_s: int
    tile_s: int

    @property
    def tiles(self) -> int:
        """How many tiles the window spans."""
        return self.length_s // self.tile_s


WINDOWS = (
    Window("1h", 3600, 300),
    Window("24h", 86_400, 3600),
    Window("7d", 7 * 86_400, 86_400),
    Window("30d", 30 * 86_400, 86_400),
)
LONGEST_WINDOW_S = max(w.length_s for w in WINDOWS)


@dataclass(frozen=True, slots=True)
class Measure:
    """One number per tile: how many events of these types, or the sum of their amounts."""

    name: str
    op: Literal["count", "sum"]
    event_types: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ActivityKind:
    """What is measured for one kind of entity.

    Attributes:
        name: `rider`, `driver`, `device`, `payment_instrument` or `pair`.
        id_fields: the event fields that together name the entity.
        measures: additive measures, in the order in which a tile stores them.
        counterpart: the id field whose distinct values are counted, if any.
        distinct: the name of that count.
    """

    name: str
    id_fields: tuple[str, ...]
    measures: tuple[Measure, ...]
    counterpart: str | None = None
    distinct: str | None = None

    def feature_names(self) -> list[str]:
        """Names in the order of `window_merge.window_features`: measures by window, distinct by window, then age."""
        names = [f"{self.name}_{m.name}_{w.name}" for m in self.measures for w in WINDOWS]
        if self.distinct:
            names += [f"{self.name}_{self.distinct}_{w.name}" for w in WINDOWS]
        return [*names, f"{self.name}_age_s"]


def _count(name: str, *event_types: str) -> Measure:
    return Measure(name, "count", event_types)


_REQUESTS = _count("requests", "trip_requested")
_TRIPS = _count("trips", "trip_completed")
_CANCELS = _count("cancels", "trip_cancelled")
_PAYMENTS = _count("payments", "payment_authorized")
_PROMOS = _count("promos", "promo_redeemed")
_REFUNDS = _count("refunds", "refund_claimed")
_CHANGES = _count("changes", "account_changed")
_FARE_SUM = Measure("fare_sum", "sum", ("trip_completed",))
_AMOUNT_SUM = Measure("amount_sum", "sum", ("payment_authorized",))

ACTIVITY_KINDS: dict[str, ActivityKind] = {
    kind.name: kind
    for kind in (
        ActivityKind(
            "rider",
            ("rider_id",),
            (_REQUESTS, _TRIPS, _CANCELS, _PAYMENTS, _PROMOS, _REFUNDS, _CHANGES, _FARE_SUM),
            "driver_id",
            "drivers",
        ),
        ActivityKind("driver", ("driver_id",), (_TRIPS, _CANCELS, _REFUNDS, _FARE_SUM), "rider_id", "riders"),
        ActivityKind("device", ("device_id",), (_TRIPS, _PROMOS, _CHANGES), "rider_id", "riders"),
        ActivityKind("payment_instrument", ("payment_instrument_id",), (_PAYMENTS, _AMOUNT_SUM), "rider_id", "riders"),
        ActivityKind("pair", ("rider_id", "driver_id"), (_TRIPS, _FARE_SUM)),
    )
}
ACTIVITY_FEATURES: tuple[str, ...] = tuple(n for k in ACTIVITY_KINDS.values() for n in k.feature_names())


@dataclass(frozen=True, slots=True)
class PackedTiles:
    """Tiles as they lie in a blob: sorted by tile length and index, so that every window is one run of rows.

    Attributes:
        keys: (tile length << 32 | tile index), ascending, shape [t].
        latest_us: latest event of each tile, shape [t].
        measures: shape [t, measures].
        starts: where each tile's sketch begins in `hashes`, and the end of the last, shape [t + 1].
        hashes: all sketches, one after the other.
    """

    keys: NDArray[np.int64]
    latest_us: NDArray[np.int64]
    measures: NDArray[np.int64]
    starts: NDArray[np.int64]
    hashes: NDArray[np.uint64]

    @classmethod
    def read(cls, blob: bytes, measures: int | None = None) -> PackedTiles:
        """Reads what `real_time_features.encode_blobs` wrote, without copying.

        Args:
            blob: the bytes.
            measures: how many measures a tile must have; any number when None.

        Raises:
            CorruptValue: the bytes are not a tile blob, or one of another number of measures.
        """
        n_measures, n = int.from_bytes(blob[:2], "little"), int.from_bytes(blob[2:6], "little")
        width = 2 + n_measures
        sizes_at = 6 + 8 * n * width
        hashes_at = sizes_at + 2 * n
        if measures is not None and n_measures != measures:
            raise CorruptValue(f"a tile blob has {n_measures} measures a tile, not {measures}")
        if len(blob) < hashes_at:
            raise CorruptValue(f"a tile blob of {len(blob)} bytes does not hold the {n} tiles that it announces")
        starts = np.zeros(n + 1, np.int64)
        np.cumsum(np.frombuffer(blob, "<u2", n, sizes_at), out=starts[1:])
        if len(blob) != hashes_at + 8 * int(starts[-1]):
            raise CorruptValue(f"a tile blob of {len(blob)} bytes does not hold the sketches that it announces")
        table = np.frombuffer(blob, "<i8", n * width, 6).reshape(n, width)
        if (table[1:, 0] <= table[:-1, 0]).any():
            raise CorruptValue("the tiles of a blob are not in ascending order")
        if (table[:, 0] >> KEY_BITS).any():
            raise CorruptValue("a tile of a blob has a length or an index that does not exist")
        hashes = np.frombuffer(blob, "<u8", int(starts[-1]), hashes_at)
        return cls(table[:, 0], table[:, 1], table[:, 2:], starts, hashes)
