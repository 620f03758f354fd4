"""Merged windows against a plain count of the events in them, which knows no tiles and no arrays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from feature_repo import window_merge
from feature_repo.errors import CorruptValue
from feature_repo.tile_table import KindTiles
from feature_repo.tiles import ACTIVITY_KINDS, WINDOWS, ActivityKind, PackedTiles
from feature_repo.window_merge import window_features
from tests.unit.feature_repo.tile_oracle import PlainTiles

NOW_US = 1_770_000_123_456_789
DAY_US = 86_400_000_000


@dataclass(frozen=True)
class Past:
    """One thing that an entity did: when, what it adds to each measure, and with whom."""

    timestamp_us: int
    added: Sequence[int]
    counterpart: int | None


def blob(kind: ActivityKind, past: Sequence[Past]) -> bytes:
    tiles = PlainTiles(len(kind.measures))
    for one in past:
        tiles.add(one.timestamp_us, one.added, one.counterpart)
    return tiles.blob(trimmed=False)


def plain(kind: ActivityKind, past: Sequence[Past], as_of_us: int) -> list[float]:
    """The features of one entity, in the order of `ActivityKind.feature_names`, from its events alone."""

    def within(window: int) -> list[Past]:
        tile, tiles = WINDOWS[window].tile_s, WINDOWS[window].tiles
        last = as_of_us // 1_000_000 // tile
        return [p for p in past if last - tiles < p.timestamp_us // 1_000_000 // tile <= last]

    windows = [within(w) for w in range(len(WINDOWS))]
    values = [float(sum(p.added[m] for p in seen)) for m in range(len(kind.measures)) for seen in windows]
    if kind.distinct:
        values += [distinct({p.counterpart for p in seen if p.counterpart is not None}) for seen in windows]
    latest = max((p.timestamp_us for p in windows[-1]), default=None)
    return [*values, 30 * 86_400.0 if latest is None else max(0, as_of_us - latest) / 1e6]


def distinct(others: set[int]) -> float:
    """Bar-Yossef's estimate from the 256 smallest hashes, exact below as many."""
    return float(len(others)) if len(others) < 256 else 255 / (sorted(others)[255] / 2.0**64)


def pasts(kind: ActivityKind) -> st.SearchStrategy[list[Past]]:
    # Some at the same instants and with the same people, some before every window, some after the request.
    instants = st.one_of(
        st.integers(NOW_US - 40 * DAY_US, NOW_US + DAY_US),
        st.sampled_from([NOW_US, NOW_US - 1, NOW_US - 300_000_000, NOW_US - 3_600_000_000, NOW_US - DAY_US]),
    )
    amounts = st.lists(st.integers(0, 10**12), min_size=len(kind.measures), max_size=len(kind.measures))
    others = st.one_of(st.none(), st.integers(0, 2**64 - 1), st.integers(1, 3)) if kind.distinct else st.none()
    return st.lists(st.builds(Past, instants, amounts, others), max_size=12)


@st.composite
def batches(draw: st.DrawFn) -> tuple[dict[str, list[list[Past] | None]], dict[str, list[int]], list[int]]:
    """Entities by kind (None: no past), which of them each event has, and when each event is."""
    n = draw(st.integers(1, 5))
    entities, rows = {}, {}
    for name, kind in ACTIVITY_KINDS.items():
        entities[name] = draw(st.lists(st.one_of(st.none(), pasts(kind)), max_size=3))
        rows[name] = draw(st.lists(st.integers(-1, len(entities[name]) - 1), min_size=n, max_size=n))
    return entities, rows, draw(st.lists(st.integers(NOW_US - 2 * DAY_US, NOW_US), min_size=n, max_size=n))


def merge(entities: dict[str, list[list[Past] | None]], rows: dict[str, list[int]], as_of: list[int]) -> np.ndarray:
    tiles = {
        name: KindTiles([None if past is None else blob(kind, past) for past in entities[name]], rows[name])
        for name, kind in ACTIVITY_KINDS.items()
    }
    return window_features(tiles, np.array(as_of), fail)


def fail(what: str, problem: object) -> None:
    raise AssertionError(f"{what}: {problem}")


def expected(entities: dict[str, list[list[Past] | None]], rows: dict[str, list[int]], as_of: list[int]) -> np.ndarray:
    events = [
        [
            value
            for name, kind in ACTIVITY_KINDS.items()
            for value in plain(kind, (entities[name][rows[name][i]] or []) if rows[name][i] >= 0 else [], instant)
        ]
        for i, instant in enumerate(as_of)
    ]
    return np.array(events).T


# Whole batches take minutes to shrink.
WITHOUT_SHRINKING = (Phase.explicit, Phase.reuse, Phase.generate)


@settings(max_examples=150, deadline=None, phases=WITHOUT_SHRINKING)
@given(batches())
def test_windows_hold_exactly_the_events_in_them(given_batch: tuple) -> None:
    np.testing.assert_array_equal(merge(*given_batch), expected(*given_batch))


@settings(max_examples=20, deadline=None, phases=WITHOUT_SHRINKING)
@given(batches())
def test_a_batch_of_any_size_is_merged_in_parts(given_batch: tuple) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(window_merge, "_MOST_EVENTS", 2)
        np.testing.assert_array_equal(merge(*given_batch), expected(*given_batch))


@pytest.mark.parametrize("others", [255, 256, 257, 2000])
def test_distinct_counterparts_are_exact_below_256_and_estimated_from_the_smallest_hashes_above(others: int) -> None:
    rng = np.random.default_rng(others)
    hashes = [int(h) for h in rng.integers(0, 2**64, others, np.uint64)]
    past = [Past(NOW_US - (i % 20) * DAY_US, [1, 0, 0, 500], h) for i, h in enumerate(hashes + hashes[:100])]
    entities = {name: [past] if name == "driver" else [] for name in ACTIVITY_KINDS}
    rows = {name: [0, 0] if name == "driver" else [-1, -1] for name in ACTIVITY_KINDS}
    found = merge(entities, rows, [NOW_US, NOW_US - 5 * DAY_US])
    np.testing.assert_array_equal(found, expected(entities, rows, [NOW_US, NOW_US - 5 * DAY_US]))


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_blob_that_cannot_be_read_is_reported_and_costs_nobody_else(data: st.DataObject) -> None:
    kind = ACTIVITY_KINDS["device"]
    good = [blob(kind, data.draw(pasts(kind))) for _ in range(3)]
    torn = [b[: data.draw(st.integers(0, len(b)))] for b in good]
    mixed = data.draw(st.permutations([*good, *torn, *data.draw(st.lists(st.binary(max_size=80), max_size=3))]))
    reported: list[object] = []
    found = device_features(mixed, lambda _what, problem: reported.append(problem))
    sound = [b if readable(kind, b) else None for b in mixed]
    np.testing.assert_array_equal(found, device_features(sound, fail))
    assert len(reported) == sound.count(None)


def device_features(blobs: Sequence[bytes | None], on_corrupt: object) -> np.ndarray:
    tiles = {name: KindTiles([], [-1] * len(blobs)) for name in ACTIVITY_KINDS}
    tiles["device"] = KindTiles(blobs, range(len(blobs)))
    return window_features(tiles, np.full(len(blobs), NOW_US), on_corrupt)  # type: ignore[arg-type]


def readable(kind: ActivityKind, given_blob: bytes) -> bool:
    try:
        PackedTiles.read(given_blob, len(kind.measures))
    except CorruptValue:
        return False
    return True


SOUND = [Past(NOW_US - days * DAY_US, [1, 0, 0], days + 1) for days in range(4)]
ROW = 8 * (2 + len(ACTIVITY_KINDS["device"].measures))
DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "a hash is missing": lambda b: b[:-8],
    "a hash too many": lambda b: b + b[-8:],
    "falling order": lambda b: b[:6] + b[6 + ROW : 6 + 2 * ROW] + b[6 : 6 + ROW] + b[6 + 2 * ROW :],
    "a tile twice": lambda b: b[:6] + 2 * b[6 : 6 + ROW] + b[6 + 2 * ROW :],
    "a key that belongs to the next blob": lambda b: b[:6] + (2**49 + 1).to_bytes(8, "little") + b[14:],
    "a key below zero": lambda b: b[:6] + (-1).to_bytes(8, "little", signed=True) + b[14:],
    "the tiles of another kind": lambda _: blob(ACTIVITY_KINDS["pair"], []),
    "more tiles than bytes": lambda b: b[:2] + b"\xff\xff\xff\xff" + b[6:],
    "no bytes": lambda _: b"",
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_of_every_sort_is_seen(damage: str) -> None:
    good = blob(ACTIVITY_KINDS["device"], SOUND)
    reported: list[object] = []
    found = device_features([good, DAMAGE[damage](good), good], lambda _what, problem: reported.append(problem))
    np.testing.assert_array_equal(found, device_features([good, None, good], fail))
    assert len(reported) == 1
