"""Reads the JSON Schema files beside it into frozen, typed records.

The files use a small part of JSON Schema 2020-12 on purpose: one envelope, one file per event type, flat
properties. Whatever validates, stores or transports events derives its rules from `CATALOGUE`, so a field is
declared once.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Literal

JsonType = Literal["string", "integer", "number", "boolean"]
V2Datatype = Literal["BYTES", "INT64", "FP64", "BOOL"]

SCHEMA_VERSION = "v1"

_V2_DATATYPES: dict[JsonType, V2Datatype] = {
    "string": "BYTES",
    "integer": "INT64",
    "number": "FP64",
    "boolean": "BOOL",
}


@dataclass(frozen=True, slots=True)
class FieldSpec:
    """One event field: its JSON type and the bounds a value must keep (all inclusive)."""

    name: str
    json_type: JsonType
    description: str
    minimum: float | None = None
    maximum: float | None = None
    max_length: int | None = None
    pattern: str | None = None
    enum: tuple[str, ...] = ()

    @property
    def v2_datatype(self) -> V2Datatype:
        """The Open Inference Protocol datatype this field travels as."""
        return _V2_DATATYPES[self.json_type]


@dataclass(frozen=True, slots=True)
class Catalogue:
    """Every field of every event type.

    Attributes:
        fields: all fields, the envelope's first, each name once.
        required: field names that must be present, by event type (envelope included).
        allowed: field names that may be present, by event type (envelope included).
    """

    fields: dict[str, FieldSpec]
    required: dict[str, frozenset[str]]
    allowed: dict[str, frozenset[str]]


@cache
def read_schema(name: str) -> dict[str, Any]:
    """Returns the JSON Schema file `<name>.v1.json` as parsed JSON."""
    text = files(__package__).joinpath(f"{name}.{SCHEMA_VERSION}.json").read_text("utf-8")
    schema: dict[str, Any] = json.loads(text)
    return schema


def _field(name: str, schema: dict[str, Any]) -> FieldSpec:
    return FieldSpec(
        name=name,
        json_type=schema["type"],
        description=schema["description"],
        minimum=schema.get("minimum"),
        maximum=schema.get("maximum"),
        max_length=schema.get("maxLength"),
        pattern=schema.get("pattern"),
        enum=tuple(schema.get("enum", ())),
    )


def _load() -> Catalogue:
    envelope = read_schema("envelope")
    fields = {name: _field(name, schema) for name, schema in envelope["properties"].items()}
    required: dict[str, frozenset[str]] = {}
    allowed: dict[str, frozenset[str]] = {}
    for event_type in envelope["properties"]["event_type"]["enum"]:
        schema = read_schema(event_type)
        own = {n: _field(n, s) for n, s in schema["properties"].items() if "const" not in s}
        for name, spec in own.items():
            if fields.setdefault(name, spec) != spec:
                raise ValueError(f"field {name!r} is declared differently in {event_type} and elsewhere")
        required[event_type] = frozenset(envelope["required"]) | frozenset(schema["required"])
        allowed[event_type] = frozenset(envelope["properties"]) | frozenset(own)
    return Catalogue(fields=fields, required=required, allowed=allowed)


CATALOGUE = _load()
ENVELOPE_FIELDS: tuple[str, ...] = tuple(read_schema("envelope")["properties"])
EVENT_TYPES: tuple[str, ...] = CATALOGUE.fields["event_type"].enum
# A cancelled trip feeds features and batch review; nobody waits for a decision on it.
SCORED_EVENT_TYPES: tuple[str, ...] = tuple(t for t in EVENT_TYPES if t != "trip_cancelled")
