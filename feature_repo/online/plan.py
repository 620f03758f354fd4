"""Which hashes a batch of events reads, each once however many events share it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from feature_repo.event_batch import EventBatch
from feature_repo.feast_format import entity_keys, hash_field, sequence_field
from feature_repo.graph_features import ID_FIELDS
from feature_repo.online.connection import Command, Reply
from feature_repo.online.hashes import HashFields
from feature_repo.profiles import UNPUBLISHED
from feature_repo.pseudonyms import ENTITY_KINDS
from feature_repo.tiles import ACTIVITY_KINDS

CITY = "city"
_NORMS = ("city_fare_per_km", "city_speed_kmh", "city_gps_accuracy_m")


@dataclass(frozen=True, slots=True)
class ReadPlan:
    """The reads of n events.

    Attributes:
        commands: one for each entity and city.
        rows: by kind, which of the kind's entities each event has, -1 for none, n of them.
        spans: by kind, the place of its commands.
    """

    commands: Sequence[Command]
    rows: Mapping[str, Sequence[int]]
    spans: Mapping[str, slice]

    @classmethod
    def of(cls, batch: EventBatch, project: str) -> ReadPlan:
        """Plans the reads of a batch."""
        ids: dict[str, list[Any]] = {CITY: batch[CITY].tolist()}
        for name in ID_FIELDS:
            present = batch.present[name].tolist()
            ids[name] = [value if ok else None for value, ok in zip(batch[name].tolist(), present, strict=True)]
        commands: list[Command] = []
        rows: dict[str, list[int]] = {}
        spans: dict[str, slice] = {}
        for kind, names in _JOIN_KEYS.items():
            places: dict[tuple[str, ...], int] = {}
            entities = zip(*(ids[name] for name in names), strict=True)
            rows[kind] = [-1 if None in entity else places.setdefault(entity, len(places)) for entity in entities]
            spans[kind] = slice(len(commands), len(commands) + len(places))
            commands += _FIELDS[kind].commands(entity_keys(project, names).keys(places))
        return cls(commands, rows, spans)

    def columns(self, kind: str, replies: Sequence[Reply]) -> list[Sequence[bytes | None]]:
        """What is stored of one kind's entities, by field: sequence, tiles, neighbours, profile; norms."""
        return _FIELDS[kind].columns(replies[self.spans[kind]])


def _fields() -> dict[str, HashFields]:
    tiles = {kind: hash_field(f"{kind}_tiles", f"{kind}_tiles_blob") for kind in ACTIVITY_KINDS}
    fields = {kind: HashFields(sequence_field(kind), tiles[kind]) for kind in ACTIVITY_KINDS}
    for kind in ENTITY_KINDS:
        fields[kind] = HashFields(
            sequence_field(kind),
            tiles[kind],
            hash_field(f"{kind}_neighbours", f"{kind}_neighbours_blob"),
            *(hash_field(f"{kind}_profile", f"{kind}_{name}") for name in UNPUBLISHED),
        )
    return {**fields, CITY: HashFields(*(hash_field("city_profile", name) for name in _NORMS))}


_JOIN_KEYS: dict[str, tuple[str, ...]] = {
    **{kind: activity.id_fields for kind, activity in ACTIVITY_KINDS.items()},
    CITY: (CITY,),
}
_FIELDS = _fields()
