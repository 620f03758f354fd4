"""The stream record: what one event says about one of its entities, in 46 bytes.

Ingestion fans an event out to one record per entity; the worker folds them by the thousand. A fixed size lets it read
a micro-batch as one array. Only what the online state needs is in it: the event itself goes to the log stream.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from feature_repo.event_batch import EventBatch
from feature_repo.event_schemas import EVENT_TYPES
from feature_repo.graph_features import INTERACTION, event_codes, event_interactions, parsed_ids
from feature_repo.pseudonyms import ENTITY_KINDS
from feature_repo.tiles import ACTIVITY_KINDS

KIND_NAMES: tuple[str, ...] = tuple(ACTIVITY_KINDS)
PAIR = KIND_NAMES.index("pair")
FORMAT = 1
# `id` is the entity's hash; of a pair, the rider's, and `other` the driver's. Otherwise `other` is the counterpart of
# the interaction. The sequence comes first: the publishing script puts it before the rest.
RECORD = np.dtype(
    [
        ("stream_seq", "<i8"),
        ("format", "u1"),
        ("kind", "u1"),
        ("event_type", "u1"),
        ("key_id", "u1"),
        ("other_kind", "u1"),
        ("other_key_id", "u1"),
        ("id", "<u8"),
        ("other", "<u8"),
        ("timestamp_us", "<i8"),
        ("amount", "<i8"),
    ]
)
BODY_AT = 8
# Odd, so that the driver's hash reaches every bit of the sum (Knuth, The Art of Computer Programming, 6.4).
_SPREAD = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True)
class FannedOut:
    """The records of n events, in event order.

    Attributes:
        records: RECORD array of shape [m].
        rows: the event of each record, ascending, shape [m].
        partitions: which partition owns each record's entity, shape [m].
    """

    records: NDArray[np.void]
    rows: NDArray[np.int64]
    partitions: NDArray[np.int64]


def fan_out(batch: EventBatch, stream_seq: NDArray[np.int64], partitions: int) -> FannedOut:
    """One record for each entity of each pseudonymised event.

    Args:
        batch: n events.
        stream_seq: their numbers, shape [n].
        partitions: how many partitions share the entities.
    """
    interactions, exists = event_interactions(batch)
    own = parsed_ids(batch)
    n = len(batch)
    table = np.zeros((n, len(KIND_NAMES)), RECORD)
    table["stream_seq"] = stream_seq[:, None]
    table["format"] = FORMAT
    table["kind"] = np.arange(len(KIND_NAMES))
    table["event_type"] = event_codes(batch)[:, None]
    table["timestamp_us"] = batch["event_timestamp"][:, None]
    table["amount"] = batch["amount"][:, None]
    singles = table[:, : len(ENTITY_KINDS)]
    for mine, theirs in (("other", "id"), ("other_kind", "kind"), ("other_key_id", "key_id")):
        singles[mine] = interactions[theirs]
    for name in ("id", "key_id"):
        singles[name] = own[name]
    pair, (rider, driver) = table[:, PAIR], (0, 1)
    pair["id"], pair["key_id"] = own["id"][:, rider], own["key_id"][:, rider]
    pair["other"], pair["other_key_id"], pair["other_kind"] = own["id"][:, driver], own["key_id"][:, driver], driver
    present = np.column_stack([exists, exists[:, rider] & exists[:, driver]])
    records = table[present]
    return FannedOut(records, np.nonzero(present)[0], partition_of(records, partitions))


def partition_of(records: NDArray[np.void], partitions: int) -> NDArray[np.int64]:
    """Which of the partitions owns the entity of each record, shape [m]."""
    hashes = records["id"] + np.where(records["kind"] == PAIR, records["other"] * _SPREAD, np.uint64(0))
    return (hashes % np.uint64(partitions)).astype(np.int64)


def read_records(bodies: Sequence[bytes]) -> tuple[NDArray[np.void], NDArray[np.int64]]:
    """Reads stream records.

    Returns:
        The records that can be read, and their positions in `bodies`.
    """
    sizes = np.fromiter(map(len, bodies), np.int64, len(bodies))
    whole = np.flatnonzero(sizes == RECORD.itemsize)
    joined = b"".join(bodies if len(whole) == len(bodies) else [bodies[i] for i in whole.tolist()])
    records = np.frombuffer(joined, RECORD)
    usable = (
        (records["format"] == FORMAT)
        & (records["kind"] < len(KIND_NAMES))
        & (records["event_type"] < len(EVENT_TYPES))
        & (records["other_kind"] < len(ENTITY_KINDS))
        & (records["amount"] >= 0)
        & (records["timestamp_us"] >= 0)
        & (records["stream_seq"] > 0)
    )
    return records[usable], whole[usable]


def interactions(records: NDArray[np.void]) -> NDArray[np.void]:
    """The interaction that each record adds to its entity's neighbourhood, INTERACTION array of shape [m]."""
    result = np.empty(len(records), INTERACTION)
    result["id"], result["kind"], result["key_id"] = records["other"], records["other_kind"], records["other_key_id"]
    result["event_type"], result["ts"], result["amount"] = (
        records["event_type"],
        records["timestamp_us"],
        records["amount"],
    )
    return result
