"""The recent neighbourhood of an event's entities: what the graph model reads at request time.

Every event is an interaction of each of its entities with a counterpart: a rider's is the driver (the device while no
driver is assigned), everybody else's is the rider. An entity's neighbours are its K most recent interactions in
arrival order.

How often a counterpart stands in the histories of the event's other entities (`co_occurrence`) tells who belongs
together: the neighbour co-occurrence of DyGFormer (Yu et al. 2023), which needs no embedding and no weight per id.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from feature_repo.errors import CorruptValue
from feature_repo.event_batch import EventBatch
from feature_repo.event_schemas import EVENT_TYPES, SCORED_EVENT_TYPES
from feature_repo.feature_names import STORE_FEATURES
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
# What else the head reads: the tabular model's features of the store and against the city's norms, as logarithms.
CONTEXT_FEATURES: tuple[str, ...] = ("fare_per_km_vs_city", "speed_vs_city", "gps_accuracy_vs_city", *STORE_FEATURES)
HEAD_FEATURES: tuple[str, ...] = (*EVENT_FEATURES, *(f"log_{name}" for name in CONTEXT_FEATURES))
_CODES = {t: i for i, t in enumerate(EVENT_TYPES)}
EDGE_FEATURES: tuple[str, ...] = (
    "log_age_hours",
    "log_amount",
    *(f"was_{t}" for t in EVENT_TYPES),
    *(f"log_times_with_{kind}" for kind in ENTITY_KINDS),
    "is_own",
)


def head_features(batch: EventBatch, values: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
    """Returns `HEAD_FEATURES`, shape [n, len(HEAD_FEATURES)].

    Args:
        batch: n events.
        values: `CONTEXT_FEATURES` by name, each of shape [n]; NaN where unknown.
    """
    context = np.column_stack([np.asarray(values[name], np.float64) for name in CONTEXT_FEATURES])
    return np.concatenate([event_features(batch), context_features(context)], axis=1)


def context_features(context: NDArray[np.float64]) -> NDArray[np.float32]:
    """The logarithms of 1 + `CONTEXT_FEATURES`, same shape; unknown values are 0. None of them is negative."""
    with np.errstate(invalid="ignore"):
        return np.nan_to_num(np.log1p(np.maximum(context, 0.0)).astype(np.float32))


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


def edge_features(
    interactions: NDArray[np.void], as_of_us: NDArray[np.int64], together: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Returns `EDGE_FEATURES`, shape [m, len(EDGE_FEATURES)].

    Args:
        interactions: INTERACTION [m].
        as_of_us: the instants at which they are seen, [m].
        together: their rows of `co_occurrence`, [m, 5].
    """
    age_hours = np.maximum(as_of_us - interactions["ts"], 0) / 3.6e9
    columns = [
        np.log1p(age_hours),
        np.log1p(interactions["amount"]),
        *(interactions["event_type"] == i for i in range(len(EVENT_TYPES))),
    ]
    return np.column_stack([*columns, together]).astype(np.float32)


def co_occurrence(
    counterparts: NDArray[Any], exists: NDArray[np.bool_], own: NDArray[Any], has: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """How often each interaction's counterpart stands in each of the event's histories, and whether it is in the event.

    Args:
        counterparts: a number for each counterpart, equal for the same entity only, [n, 4, K].
        exists: which of them there are, [n, 4, K].
        own: numbers of the event's own entities, [n, 4].
        has: which of them there are, [n, 4].

    Returns:
        [n, 4, K, 5]: the logarithm of 1 + times by history (rider, driver, device, payment instrument), and 0 or 1;
        zeros where there is no interaction.
    """
    n, kinds, k = counterparts.shape
    flat, there = counterparts.reshape(n, kinds * k), exists.reshape(n, kinds * k)
    same = (flat[:, :, None] == flat[:, None, :]) & there[:, :, None] & there[:, None, :]
    times = same.reshape(n, kinds * k, kinds, k).sum(-1, dtype=np.float32)
    is_own = ((flat[:, :, None] == own[:, None, :]) & has[:, None, :] & there[:, :, None]).any(-1)
    result = np.concatenate([np.log1p(times), is_own[..., None]], -1, dtype=np.float32)
    return result.reshape(n, kinds, k, kinds + 1)


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
            distinct, codes = _numbered(batch[name][rows])
            key_ids, hashes = zip(*map(parse_pseudonym, distinct), strict=True)
            parsed["id"][rows, slot] = np.array(hashes, np.uint64)[codes]
            parsed["key_id"][rows, slot] = np.array(key_ids, np.uint8)[codes]
    return parsed


def _numbered(names: NDArray[np.object_]) -> tuple[list[str], NDArray[np.int64]]:
    """The distinct names in order of appearance, and the position of each of n names among them, shape [n]."""
    every: list[str] = names.tolist()
    numbers = {name: number for number, name in enumerate(dict.fromkeys(every))}
    return list(numbers), np.fromiter(map(numbers.__getitem__, every), np.int64, len(every))


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
    entities = np.full(exists.shape, -1, np.int64)
    for slot, name in enumerate(ID_FIELDS):
        entities[exists[:, slot], slot] = _numbered(batch[name][exists[:, slot]])[1]
    rows, counts = neighbour_rows(entities)
    return seen_interactions(added, rows), counts


def neighbour_rows(entities: NDArray[np.int64]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """The events whose interactions make up the neighbourhood that each event of a log in stream order saw.

    Args:
        entities: a number for the event's entity of each kind, -1 where it has none, shape [n, 4].

    Returns:
        Rows of the log, -1 beyond the last, shape [n, 4, K] (most recent first), and how many of the K exist, [n, 4].
    """
    rows = np.full((*entities.shape, K_NEIGHBOURS), -1, np.int32)
    counts = np.zeros(entities.shape, np.int64)
    back = np.arange(K_NEIGHBOURS)
    for slot, of_kind in enumerate(entities.T):
        # By entity and then in stream order; those without one come first.
        order = np.argsort(of_kind, kind="stable")[np.count_nonzero(of_kind < 0) :]
        entity = of_kind[order]
        place = np.arange(len(order))
        first = np.concatenate([[True], entity[1:] != entity[:-1]])[: len(order)]
        seen = np.minimum(place - np.maximum.accumulate(np.where(first, place, 0)), K_NEIGHBOURS)
        # Row i has the K places before i, the nearest first.
        padded = np.concatenate([np.full(K_NEIGHBOURS, -1), order]).astype(np.int32)
        before = np.lib.stride_tricks.sliding_window_view(padded, K_NEIGHBOURS)[: len(order), ::-1]
        rows[order, slot] = np.where(back < seen[:, None], before, -1)
        counts[order, slot] = seen
    return rows, counts


def seen_interactions(added: NDArray[np.void], rows: NDArray[np.int32]) -> NDArray[np.void]:
    """The interactions behind `neighbour_rows`: INTERACTION [n, 4, K] of what each event added [n, 4]; zeros for -1."""
    result = np.empty(rows.shape, INTERACTION)
    # As plain bytes: numpy copies a record of fields field by field.
    raw = np.dtype((np.void, INTERACTION.itemsize))
    for slot in range(rows.shape[1]):
        of_kind = np.concatenate([added[:, slot], np.zeros(1, INTERACTION)]).view(raw)
        result[:, slot] = of_kind[rows[:, slot]].view(INTERACTION)
    return result


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
