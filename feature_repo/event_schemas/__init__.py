"""The single definition of what an event is: JSON Schema files and the typed view of them."""

from feature_repo.event_schemas.catalogue import (
    CATALOGUE,
    ENVELOPE_FIELDS,
    EVENT_TYPES,
    SCHEMA_VERSION,
    SCORED_EVENT_TYPES,
    FieldSpec,
)

__all__ = [
    "CATALOGUE",
    "ENVELOPE_FIELDS",
    "EVENT_TYPES",
    "SCHEMA_VERSION",
    "SCORED_EVENT_TYPES",
    "FieldSpec",
]
