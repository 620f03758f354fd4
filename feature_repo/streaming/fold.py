"""How one event changes the state of each of its entities; pure, shared by the worker and the rebuild."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from feature_repo.errors import CorruptValue
from feature_repo.event_batch import EventBatch
from feature_repo.feast_format import (
    decode_value,
    encode_bytes_value,
    encode_timestamp,
    hash_field,
    redis_key,
    timestamp_field,
)
from feature_repo.graph_features import (
    INTERACTION,
    K_NEIGHBOURS,
    decode_interactions,
    encode_interactions,
    event_interactions,
)
from feature_repo.pseudonyms import ENTITY_KINDS, parse_pseudonym
from feature_repo.tiles import ACTIVITY_KINDS, EntityTiles, decode, encode, increments


@dataclass(frozen=True, slots=True)
class Record:
    """What one event says about one of its entities.

    Attributes:
        kind: activity kind.
        keys: the join keys of the entity, in the order of the kind's id fields.
        stream_seq: the event's number.
        timestamp_us: when it happened.
        added: increments of the kind's measures.
        counterpart: hash of the counterpart to count, if any.
        interaction: one packed INTERACTION, for kinds that keep neighbours.
    """

    kind: str
    keys: tuple[str, ...]
    stream_seq: int
    timestamp_us: int
    added: list[int]
    counterpart: int | None
    interaction: bytes | None


def records(batch: EventBatch, stream_seq: NDArray[np.int64]) -> Iterator[Record]:
    """Fans a batch of numbered, pseudonymised events out to one record per entity, in order."""
    interactions, exists = event_interactions(batch)
    for row in range(len(batch)):
        event_type, amount = str(batch["event_type"][row]), int(batch["amount"][row])
        for kind, activity in ACTIVITY_KINDS.items():
            if not all(batch.present[name][row] for name in activity.id_fields):
                continue
            other = activity.counterpart
            slot = ENTITY_KINDS.index(kind) if kind in ENTITY_KINDS else None
            yield Record(
                kind,
                tuple(str(batch[name][row]) for name in activity.id_fields),
                int(stream_seq[row]),
                int(batch["event_timestamp"][row]),
                increments(activity, event_type, amount),
                parse_pseudonym(batch[other][row])[1] if other and batch.present[other][row] else None,
                interactions[row, slot].tobytes() if slot is not None and exists[row, slot] else None,
            )


@dataclass(slots=True)
class EntityState:
    """The online state of one entity.

    Attributes:
        kind: activity kind.
        tiles: its tiles.
        recent: its packed interactions, most recent first; empty for pairs.
        sequence: the last event applied; whatever is not above it was seen before.
    """

    kind: str
    tiles: EntityTiles
    recent: bytes = b""
    sequence: int = 0

    @classmethod
    def new(cls, kind: str) -> EntityState:
        """The state of an entity that has done nothing."""
        return cls(kind, EntityTiles(len(ACTIVITY_KINDS[kind].measures)))

    def apply(self, record: Record, now_us: int = 0) -> bool:
        """Adds one event; returns False, changing nothing, when it was already applied.

        Args:
            record: the event.
            now_us: tiles that are outlived at this instant are not written; 0 writes all.
        """
        if record.stream_seq <= self.sequence:
            return False
        self.tiles.add(record.timestamp_us, record.added, record.counterpart, now_us)
        if record.interaction is not None:
            self.recent = (record.interaction + self.recent)[: INTERACTION.itemsize * K_NEIGHBOURS]
        self.sequence = record.stream_seq
        return True

    def trim(self) -> int:
        """Forgets tiles that the entity's latest event has outlived; returns when that was, microseconds.

        The clock is the entity's own, so that the same events leave the same bytes whenever they are folded.
        """
        latest = max((tile[0] for tile in self.tiles.tiles.values()), default=0)
        self.tiles.trim(latest)
        return latest


def state_key(project: str, kind: str, keys: tuple[str, ...]) -> bytes:
    """The Redis key of an entity's hash."""
    return redis_key(project, dict(zip(ACTIVITY_KINDS[kind].id_fields, keys, strict=True)))


def state_fields(kind: str) -> list[bytes]:
    """The hash fields that `read_state` needs, in its order."""
    return [
        _sequence_field(kind),
        hash_field(f"{kind}_tiles", f"{kind}_tiles_blob"),
        hash_field(f"{kind}_neighbours", f"{kind}_neighbours_blob"),
    ]


def read_state(kind: str, values: list[bytes | None]) -> EntityState:
    """Decodes an entity's state from the values of `state_fields`.

    Raises:
        CorruptValue: the stored bytes are not ours.
    """
    sequence, tiles, recent = values
    if sequence is None:
        return EntityState.new(kind)
    blob, interactions = decode_value(tiles), decode_value(recent)
    if not isinstance(blob, bytes):
        raise CorruptValue(f"a {kind} has a sequence number but no tiles")
    packed = interactions if isinstance(interactions, bytes) else b""
    decode_interactions(packed)
    state = EntityState(kind, decode(blob), packed, int(sequence))
    if state.tiles.n_measures != len(ACTIVITY_KINDS[kind].measures):
        raise CorruptValue(f"the tiles of a {kind} have {state.tiles.n_measures} measures")
    return state


def write_state(state: EntityState) -> Mapping[bytes, bytes]:
    """The hash fields of an entity's state, to be written in one HSET so that it is never half-applied."""
    kind, stamp = state.kind, encode_timestamp(state.trim())
    fields = {
        _sequence_field(kind): str(state.sequence).encode(),
        hash_field(f"{kind}_tiles", f"{kind}_tiles_blob"): encode_bytes_value(encode(state.tiles)),
        timestamp_field(f"{kind}_tiles"): stamp,
    }
    if kind in ENTITY_KINDS:
        packed = encode_interactions(decode_interactions(state.recent))
        fields[hash_field(f"{kind}_neighbours", f"{kind}_neighbours_blob")] = encode_bytes_value(packed)
        fields[timestamp_field(f"{kind}_neighbours")] = stamp
    return fields


def _sequence_field(kind: str) -> bytes:
    return f"_seq:{kind}".encode()
