"""A stored value that cannot be read makes its one entity unknown; every event is still answered."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import redis

from feature_repo.errors import CorruptValue
from feature_repo.event_batch import EventBatch
from feature_repo.feast_format import encode_bytes_value, hash_field, redis_key
from feature_repo.graph_features import INTERACTION, encode_interactions
from feature_repo.online_reader import CORRUPT, OnlineReader, StoreRead
from feature_repo.tiles import ACTIVITY_KINDS, PackedTiles
from inference_services.subgraph import Subgraph
from inference_services.transformer.decider import model_features
from tests.unit.feature_repo.tile_oracle import PlainTiles

NOW_US = 1_770_000_000_000_000
SICK, WELL = "r1-00000000000000aa", "r1-00000000000000ab"
MEASURES = len(ACTIVITY_KINDS["rider"].measures)
VERSION, DIM = "c" * 12, 4


def tiles(measures: int = MEASURES) -> bytes:
    packed = PlainTiles(measures)
    for hours in range(3):
        packed.add(NOW_US - 1_800_000_000 - hours * 3_600_000_000, [1] * measures, 7 + hours)
    return packed.blob()


def interactions(**changes: int) -> bytes:
    past = np.zeros(2, INTERACTION)
    past["kind"], past["id"], past["key_id"], past["ts"] = 2, 0xBB, 1, NOW_US - 1_000_000
    for name, value in changes.items():
        past[name][1] = value
    return encode_interactions(past)


BLOBS: dict[str, Callable[[], bytes]] = {
    "more measures": lambda: tiles(MEASURES + 1),
    "fewer measures": lambda: tiles(MEASURES - 1),
    "cut after the head": lambda: tiles()[:6],
    "cut by a byte": lambda: tiles()[:-1],
    "cut within the sizes": lambda: tiles()[: 6 + 8 * tiles()[2] * (2 + MEASURES) + 1],
    "empty": lambda: b"",
    "noise": lambda: bytes(range(1, 200)),
    "falling order": lambda: _swapped(tiles()),
}


def _swapped(blob: bytes) -> bytes:
    width = 8 * (2 + MEASURES)
    return blob[:6] + blob[6 + width : 6 + 2 * width] + blob[6 : 6 + width] + blob[6 + 2 * width :]


@pytest.mark.parametrize("case", BLOBS)
def test_what_is_no_tile_blob_of_the_kind_is_refused_as_corrupt(case: str):
    with pytest.raises(CorruptValue):
        PackedTiles.read(BLOBS[case](), MEASURES)


def test_every_truncation_is_refused_as_corrupt():
    blob = tiles()
    for length in range(len(blob)):
        with pytest.raises(CorruptValue):
            PackedTiles.read(blob[:length])


def batch() -> EventBatch:
    row = {
        "event_type": "account_changed",
        "event_timestamp": NOW_US,
        "device_id": "v1-00000000000000bb",
        "city": "tehran",
        "change": "email",
    }
    return EventBatch.from_rows([{**row, "event_id": r, "rider_id": r} for r in (SICK, WELL)])


def store(url: str, view: str, blob: bytes, *, sick: bytes | None = None) -> None:
    """Gives the healthy rider `blob`, and the other one `sick` as the whole stored message (or as `blob`)."""
    field = hash_field(f"rider_{view}", f"rider_{view}_blob")
    with redis.Redis.from_url(url) as client:
        client.hset(redis_key("fraud", {"rider_id": WELL}), field, encode_bytes_value(blob))
        client.hset(redis_key("fraud", {"rider_id": SICK}), field, encode_bytes_value(blob) if sick is None else sick)


def read(url: str) -> tuple[StoreRead, Any]:
    """The features, and the embeddings of the subgraph that they give."""

    async def call() -> tuple[StoreRead, Any]:
        reader = OnlineReader(url, timeout_s=5)
        try:
            found = await reader.read(batch())
            graph = Subgraph.build(
                batch(), model_features(batch(), found), found.interactions, found.interaction_counts
            )
            return found, await reader.embeddings(VERSION, graph.kinds, graph.ids, graph.key_ids, DIM)
        finally:
            await reader.close()

    return asyncio.run(call())


def corrupt(value: str) -> float:
    return float(CORRUPT.labels(value)._value.get())


@pytest.mark.parametrize("case", BLOBS)
def test_corrupt_tiles_make_their_entity_idle_and_leave_the_others(case: str, redis_url: str):
    store(redis_url, "tiles", tiles(), sick=encode_bytes_value(BLOBS[case]()))
    before = corrupt("tiles")
    found, _ = read(redis_url)
    assert found.available
    assert found.features["rider_requests_7d"].tolist() == [0, 3]
    assert corrupt("tiles") == before + 1


@pytest.mark.parametrize("sick", [b"\x0a\xff", encode_bytes_value(tiles())[:-4], encode_bytes_value(b"\x01\x02\x03")])
def test_a_corrupt_message_makes_its_entity_idle(sick: bytes, redis_url: str):
    store(redis_url, "tiles", tiles(), sick=sick)
    found, _ = read(redis_url)
    assert found.available
    assert found.features["rider_requests_7d"].tolist() == [0, 3]


@pytest.mark.parametrize(
    "sick",
    [interactions(kind=4), interactions(kind=255), interactions(event_type=200), interactions(amount=-5), b"\x00" * 28],
)
def test_a_corrupt_neighbourhood_is_empty(sick: bytes, redis_url: str):
    store(redis_url, "neighbours", interactions(), sick=encode_bytes_value(sick))
    before = corrupt("neighbourhood")
    found, (_, known) = read(redis_url)
    assert found.interaction_counts[:, 0].tolist() == [0, 2]
    assert len(known) == 2 + 2 + 2
    assert corrupt("neighbourhood") == before + 1


def test_an_embedding_that_is_not_finite_is_unknown(redis_url: str):
    field = hash_field(f"rider_embedding_{VERSION}", "embedding")
    with redis.Redis.from_url(redis_url) as client:
        for rider, first in ((SICK, np.nan), (WELL, 1.0)):
            body = np.array([first, 1, 2, 3], "<f4").tobytes()
            message = bytes([0x82, 0x01, len(body) + 2, 0x0A, len(body)]) + body
            client.hset(redis_key("fraud", {"rider_id": rider}), field, message)
    _, (vectors, known) = read(redis_url)
    assert known[[0, 2]].tolist() == [0, 1]
    assert np.isfinite(vectors).all()


def test_a_first_seen_beyond_64_bits_is_unknown(redis_url: str):
    field = hash_field("rider_profile", "rider_first_seen_us")
    with redis.Redis.from_url(redis_url) as client:
        client.hset(redis_key("fraud", {"rider_id": SICK}), field, b"\x20" + b"\xff" * 11 + b"\x01")
    found, _ = read(redis_url)
    assert found.features["rider_tenure_days"].tolist() == [0, 0]


def test_the_log_names_each_sort_of_corruption_once(redis_url: str, monkeypatch: pytest.MonkeyPatch, caplog: Any):
    monkeypatch.setattr("feature_repo.online_reader._told", set())
    store(redis_url, "tiles", tiles(), sick=encode_bytes_value(b"no tiles"))
    for _ in range(3):
        read(redis_url)
    assert len([r for r in caplog.records if "stored tiles" in r.message]) == 1
