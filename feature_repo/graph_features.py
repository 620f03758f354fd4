"""The recent neighbourhood of an event's entities: what the graph model reads at request time.

Every event is an interaction of each of its entities with a counterpart: a rider's is the driver (the device while no
driver is assigned), everybody else's is the rider. An entity's neighbours are its K most recent interactions in
arrival order.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from feature_repo.errors import CorruptValue
from feature_repo.event_batch import EventBatch
from feature_repo.event_schemas import EVENT_TYPES, SCORED_EVENT_TYPES
from feature_repo.pseudonyms import ENTITY_KINDS, parse_pseudonym
from feature_repo.request_features import CityNorms, request_features

K_NEIGHBOURS = 8
ID_FIELDS: tuple[str, ...] = tuple(f"{kind}_id" for kind in ENTITY_KINDS)

# One past interaction of an entity: its counterpart (hash, kind, key id), when, what, and for how much.
INTERACTION = np.dtype(
    [("id", "<u8"), ("kind", "u1"), ("key_id", "u1"), ("event_type", "u1"), ("ts", "<i8"), ("amount", "<i8")]
)
_PLAIN = (
    "amount", "distance_m", "duration_s", "speed_kmh", "fare_per_km", "gps_accuracy_m", "gps_max_jump_m", "attempt",
)  # fmt: skip
EVENT_FEATURES: tuple[str, ...] = (
    *(f"is_{t}" for t in SCORED_EVENT_TYPES),
    *(f"log_{name}" for name in _PLAIN),
    "detour_ratio",
    "promo_applied",
    "hour_sin",
    "hour_cos",
    *(f"has_{kind}" for kind in ENTITY_KINDS),
)
_CODES = {t: i for i, t in enumerate(EVENT_TYPES)}
EDGE_FEATURES: tuple[str, ...] = ("log_age_hours", "log_amount", *(f"was_{t}" for t in EVENT_TYPES))


def event_features(batch: EventBatch) -> NDArray[np.float32]:
    """Returns `EVENT_FEATURES`, shape [n, len(EVENT_FEATURES)]; unknown values are 0."""
    values = request_features(batch, CityNorms.unknown(len(batch)))
    angle = values["hour_of_day"] * (2 * np.pi / 24)
    columns = [
        *(batch["event_type"] == t for t in SCORED_EVENT_TYPES),
        *(np.log1p(values[name]) for name in _PLAIN),
        np.minimum(values["detour_ratio"], 10.0),
        values["promo_applied"],
        np.sin(angle),
        np.cos(angle),
        *(batch.present[name] for name in ID_FIELDS),
    ]
    return np.nan_to_num(np.column_stack(columns).astype(np.float32))


def edge_features(interactions: NDArray[np.void], as_of_us: NDArray[np.int64]) -> NDArray[np.float32]:
    """Returns `EDGE_FEATURES`, shape [m, len(EDGE_FEATURES)], of m interactions seen at m instants."""
    age_hours = np.maximum(as_of_us - interactions["ts"], 0) / 3.6e9
    columns = [
        np.log1p(age_hours),
        np.log1p(interactions["amount"]),
        *(interactions["event_type"] == i for i in range(len(EVENT_TYPES))),
    ]
    return np.column_stack(columns).astype(np.float32)


def event_interactions(batch: EventBatch) -> tuple[NDArray[np.void], NDArray[np.bool_]]:
    """What each event adds to the history of each of its entities.

    Returns:
        INTERACTION array of shape [n, 4] by entity kind, and the mask [n, 4] of those that exist.
    """
    n = len(batch)
    result = np.zeros((n, len(ENTITY_KINDS)), INTERACTION)
    exists = np.column_stack([batch.present[name] for name in ID_FIELDS])
    parsed = parsed_ids(batch)
    # Counterpart slot of each entity slot: rider -> driver, else device; all others -> rider.
    counterparts = np.zeros((n, len(ENTITY_KINDS)), np.int64)
    counterparts[:, 0] = np.where(exists[:, 1], 1, 2)
    rows = np.arange(n)[:, None]
    result["id"] = parsed["id"][rows, counterparts]
    result["key_id"] = parsed["key_id"][rows, counterparts]
    result["kind"] = counterparts
    result["event_type"] = event_codes(batch)[:, None]
    result["ts"] = batch["event_timestamp"][:, None]
    result["amount"] = batch["amount"][:, None]
    return result, exists


def parsed_ids(batch: EventBatch) -> NDArray[np.void]:
    """The hash (`id`) and key id of each event's entities, shape [n, 4] by entity kind; zeros where absent."""
    parsed = np.zeros((len(batch), len(ENTITY_KINDS)), [("id", "<u8"), ("key_id", "u1")])
    for slot, name in enumerate(ID_FIELDS):
        rows = np.flatnonzero(batch.present[name])
        if len(rows):
            key_ids, hashes = zip(*map(parse_pseudonym, batch[name][rows]), strict=True)
            parsed["id"][rows, slot], parsed["key_id"][rows, slot] = np.array(hashes, np.uint64), key_ids
    return parsed


def event_codes(batch: EventBatch) -> NDArray[np.uint8]:
    """The position of each event's type in `EVENT_TYPES`, shape [n]."""
    return np.array([_CODES[t] for t in batch["event_type"]], np.uint8)


def neighbour_history(batch: EventBatch) -> tuple[NDArray[np.void], NDArray[np.int64]]:
    """The neighbourhood that each event of a log in stream order saw.

    Args:
        batch: n events in ascending `stream_seq`.

    Returns:
        INTERACTION array of shape [n, 4, K] (entity kind; most recent first) and how many of the K exist, [n, 4].
    """
    added, exists = event_interactions(batch)
    n = len(batch)
    history = np.zeros((n, len(ENTITY_KINDS), K_NEIGHBOURS), INTERACTION)
    counts = np.zeros((n, len(ENTITY_KINDS)), np.int64)
    for slot, name in enumerate(ID_FIELDS):
        rows = np.flatnonzero(exists[:, slot])
        _, codes = np.unique(batch[name][rows].astype(str), return_inverse=True)
        order = rows[np.argsort(codes, kind="stable")]
        sorted_codes = np.sort(codes, kind="stable")
        for back in range(1, K_NEIGHBOURS + 1):
            if back >= len(order):
                break
            same = sorted_codes[back:] == sorted_codes[:-back]
            now, before = order[back:][same], order[:-back][same]
            history[now, slot, back - 1] = added[before, slot]
            counts[now, slot] = back
    return history, counts


def encode_interactions(interactions: NDArray[np.void]) -> bytes:
    """Packs INTERACTION records, most recent first."""
    return interactions.tobytes()


def decode_interactions(blob: bytes) -> NDArray[np.void]:
    """Unpacks what `encode_interactions` wrote.

    Raises:
        CorruptValue: the length is not a whole number of records.
    """
    if len(blob) % INTERACTION.itemsize:
        raise CorruptValue(f"{len(blob)} bytes are not whole interactions of {INTERACTION.itemsize} bytes")
    return np.frombuffer(blob, INTERACTION)
