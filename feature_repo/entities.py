"""Whom features describe. The pair has no entity of its own: its views are keyed by rider and driver together."""

from __future__ import annotations

from collections.abc import Iterable

from feast import Entity, ValueType


def _entity(name: str, description: str) -> Entity:
    key = name if name == "city" else f"{name}_id"
    return Entity(name=name, join_keys=[key], value_type=ValueType.STRING, description=description)


RIDER = _entity("rider", "An account that asks for rides, by pseudonym.")
DRIVER = _entity("driver", "An account that offers rides, by pseudonym.")
DEVICE = _entity("device", "A phone, by pseudonym.")
PAYMENT_INSTRUMENT = _entity("payment_instrument", "A card or wallet, by pseudonym.")
CITY = _entity("city", "The city of the event.")
EVENT = _entity("event", "One event; keys the history that training joins.")

ENTITIES = {e.name: e for e in (RIDER, DRIVER, DEVICE, PAYMENT_INSTRUMENT, CITY, EVENT)}


def join_keys(entities: Iterable[str]) -> tuple[str, ...]:
    """The columns by which a view of these entities is keyed; the view itself knows them only once it is applied."""
    return tuple(ENTITIES[name].join_key for name in entities)
