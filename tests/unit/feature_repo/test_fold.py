"""The array fold against plain Python, whatever the order, the repeats and the cuts between batches."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_repo.event_batch import EventBatch
from feature_repo.event_schemas import EVENT_TYPES
from feature_repo.feast_format import decode_value
from feature_repo.graph_features import K_NEIGHBOURS, decode_interactions, event_interactions
from feature_repo.pseudonyms import ENTITY_KINDS, KIND_LETTERS, parse_pseudonym
from feature_repo.real_time_features import read_blobs
from feature_repo.streaming.fold import Grouped, fold, state_key, written_fields
from feature_repo.streaming.records import KIND_NAMES, RECORD, fan_out, read_records
from feature_repo.tiles import ACTIVITY_KINDS, SKETCH_K
from tests.unit.feature_repo.tile_oracle import PlainTiles, added

DAY_US = 86_400_000_000
START_US = 1_770_000_000_000_000
State = dict[bytes, list[bytes]]


def event(number: int, kind: int, ids: tuple[int, ...], at: int, amount: int) -> dict[str, object]:
    row: dict[str, object] = {"event_id": f"e{number}", "event_type": EVENT_TYPES[kind], "event_timestamp": at}
    row |= {"city": "tehran", "amount": amount}
    for name, which in zip(ENTITY_KINDS, ids, strict=True):
        if which or name in ("rider", "device"):
            # Hashes that differ in the first or in the last digits only.
            row[f"{name}_id"] = f"{KIND_LETTERS[name]}{1 + which % 2}-{(which << 60) + which:016x}"
    return row


EVENTS = st.lists(
    st.tuples(
        st.integers(0, len(EVENT_TYPES) - 1),
        st.tuples(*[st.integers(0, 3)] * len(ENTITY_KINDS)),
        # Some events come weeks late, some at one instant.
        st.one_of(st.integers(START_US, START_US + 40 * DAY_US), st.sampled_from([START_US, START_US + 35 * DAY_US])),
        st.integers(0, 10**9),
    ),
    min_size=1,
    max_size=40,
)


def folded(records: np.ndarray, cuts: list[int], state: State | None = None) -> State:
    """What is stored after the records came in batches that end at the cuts."""
    state = {} if state is None else state
    for part in np.split(records, cuts):
        grouped = Grouped.of(part)
        keys = grouped.keys("fraud")
        values = [state.get(key) for key in keys]
        stored = [(None, None, None) if v is None else (v[0], v[1], v[3] if len(v) > 3 else None) for v in values]
        done = fold(grouped, stored)
        assert not any(done.broken)
        state |= {key: new for key, new in zip(keys, done.values, strict=True) if new is not None}
    return state


@settings(max_examples=60, deadline=None)
@given(EVENTS, st.lists(st.integers(0, 200), max_size=4), st.booleans())
def test_the_fold_leaves_what_plain_python_leaves(
    made: list[tuple[int, tuple[int, ...], int, int]], cuts: list[int], repeated: bool
) -> None:
    batch = EventBatch.from_rows([event(i, *one) for i, one in enumerate(made)])
    records = fan_out(batch, np.arange(1, len(batch) + 1), 4).records
    again = np.concatenate([records, records[: len(records) // 2]]) if repeated else records
    state = folded(again, sorted(cuts))
    expected = plain(batch)
    assert state.keys() == expected.keys()
    for key, (sequence, blob, recent) in expected.items():
        mine = state[key]
        assert int(mine[0]) == sequence
        assert decode_value(mine[1]) == blob
        if len(mine) > 3:
            assert decode_value(mine[3]) == recent


def plain(batch: EventBatch) -> dict[bytes, tuple[int, bytes, bytes]]:
    """Sequence, tile blob and packed neighbours of every entity, an event at a time."""
    tiles: dict[bytes, PlainTiles] = {}
    numbers: dict[bytes, int] = {}
    recent: dict[bytes, list[bytes]] = {}
    interactions, _ = event_interactions(batch)
    for row in range(len(batch)):
        for name, kind in ACTIVITY_KINDS.items():
            if not all(batch.present[i][row] for i in kind.id_fields):
                continue
            key = state_key("fraud", name, tuple(batch[i][row] for i in kind.id_fields))
            other = kind.counterpart
            hashed = parse_pseudonym(batch[other][row])[1] if other and batch.present[other][row] else None
            new = added(kind, batch["event_type"][row], int(batch["amount"][row]))
            tiles.setdefault(key, PlainTiles(len(kind.measures))).add(int(batch["event_timestamp"][row]), new, hashed)
            numbers[key] = row + 1
            if name in ENTITY_KINDS:
                recent.setdefault(key, []).insert(0, interactions[row, ENTITY_KINDS.index(name)].tobytes())
    return {key: (numbers[key], tiles[key].blob(), b"".join(recent.get(key, [])[:K_NEIGHBOURS])) for key in tiles}


def test_a_sketch_keeps_the_smallest_hashes_and_no_more() -> None:
    drivers = np.random.default_rng(0).integers(1, 2**63, 700)
    rows = [
        event(i, 1, (1, 0, 1, 0), START_US, 0) | {"driver_id": f"d1-{driver:016x}"} for i, driver in enumerate(drivers)
    ]
    batch = EventBatch.from_rows(rows)
    state = folded(fan_out(batch, np.arange(1, 701), 4).records, [1000, 2000])
    tiles, broken = read_blobs([decode_value(state[state_key("fraud", "rider", (rows[0]["rider_id"],))][1])], 8)
    assert not broken.any()
    assert tiles.sizes.tolist() == [SKETCH_K] * 3
    assert tiles.hashes[:SKETCH_K].tolist() == sorted(drivers.tolist())[:SKETCH_K]
    neighbours = decode_interactions(decode_value(state[state_key("fraud", "rider", (rows[0]["rider_id"],))][3]))
    assert neighbours["id"].tolist() == drivers[::-1][:K_NEIGHBOURS].tolist()


@given(st.lists(st.binary(max_size=60), max_size=8))
def test_damaged_blobs_are_told_from_sound_ones(blobs: list[bytes]) -> None:
    rows = [event(0, 1, (1, 1, 1, 1), START_US, 5)]
    sound = folded(fan_out(EventBatch.from_rows(rows), np.array([1]), 4).records, [])
    blob = decode_value(sound[state_key("fraud", "rider", (rows[0]["rider_id"],))][1])
    given_blobs = [*blobs, blob, blob[:-3], blob + b"x", b""]
    tiles, broken = read_blobs(given_blobs, 8)
    assert broken[-4:].tolist() == [False, True, True, False]
    assert (tiles.entity == len(blobs)).sum() == 3
    assert not np.isin(tiles.entity, np.flatnonzero(broken)).any()


@given(st.lists(st.binary(max_size=60), max_size=10))
def test_bytes_that_are_no_record_are_left_out(bodies: list[bytes]) -> None:
    good = fan_out(EventBatch.from_rows([event(0, 1, (1, 1, 1, 1), START_US, 5)]), np.array([1]), 4).records
    records, positions = read_records([*bodies, good[0].tobytes()])
    assert positions[-1] == len(bodies)
    assert records[-1] == good[0]
    assert all(len(bodies[p]) == RECORD.itemsize for p in positions[:-1])


@pytest.mark.parametrize("kind", KIND_NAMES)
def test_every_kind_writes_what_feast_reads(kind: str) -> None:
    assert len(set(written_fields(kind))) == (5 if kind in ENTITY_KINDS else 3)
