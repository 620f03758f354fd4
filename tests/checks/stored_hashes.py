"""Everything that Feast keeps in an online store, and how two of them differ, byte for byte."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# The streams' and the ledger's own keys; an entity's key begins with the number of its join keys.
_NOT_ENTITIES = b"{"
_AT_ONCE = 1000

Hashes = Mapping[bytes, Mapping[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class Difference:
    """How a store differs from another.

    Attributes:
        entities: entities on either side.
        values: values on either side, timestamps included.
        alone: entities on one side only.
        different: values that are not the same bytes on both sides, those of `alone` included.
    """

    entities: int
    values: int
    alone: int
    different: int


def stored_hashes(client: Any) -> dict[bytes, dict[bytes, bytes]]:
    """The hash of every entity.

    Args:
        client: a synchronous client of a Redis or of a Redis Cluster that returns bytes.
    """
    keys = entity_keys(client)
    found: dict[bytes, dict[bytes, bytes]] = {}
    for start in range(0, len(keys), _AT_ONCE):
        part = keys[start : start + _AT_ONCE]
        pipeline = client.pipeline(transaction=False)
        for key in part:
            pipeline.hgetall(key)
        found.update(zip(part, pipeline.execute(), strict=True))
    return found


def entity_keys(client: Any) -> list[bytes]:
    """The keys of all entities, sorted."""
    return sorted(key for key in client.scan_iter(count=_AT_ONCE) if not key.startswith(_NOT_ENTITIES))


def unexpiring(client: Any, longest_s: int) -> int:
    """How many entities have no expiry, or one beyond `longest_s` seconds."""
    pipeline = client.pipeline(transaction=False)
    for key in entity_keys(client):
        pipeline.ttl(key)
    return sum(not 0 <= left <= longest_s for left in pipeline.execute())


def compare_hashes(ours: Hashes, theirs: Hashes) -> Difference:
    """Compares every value of every entity."""
    entities = ours.keys() | theirs.keys()
    values = different = 0
    for key in entities:
        mine, other = ours.get(key, {}), theirs.get(key, {})
        fields = mine.keys() | other.keys()
        values += len(fields)
        different += sum(mine.get(field) != other.get(field) for field in fields)
    return Difference(len(entities), values, len(ours.keys() ^ theirs.keys()), different)
