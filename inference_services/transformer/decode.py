"""V2 tensors -> a validated batch of events; anything else is refused with the field and the row."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from feature_repo.event_batch import Column, EventBatch, Mask
from feature_repo.event_schemas import CATALOGUE, SCORED_EVENT_TYPES
from feature_repo.event_schemas.catalogue import FieldSpec, JsonType
from feature_repo.event_schemas.validation import is_valid, validate
from feature_repo.pseudonyms import ENTITY_KINDS, KIND_LETTERS
from inference_services.errors import InvalidRequest
from inference_services.v2 import Tensors, is_utf8

_PRESENT = "_present"
_NOTHING: dict[JsonType, str | int | float | bool] = {"string": "", "integer": 0, "number": np.nan, "boolean": False}
_PSEUDONYMS = {
    f"{kind}_id": re.compile(rf"{KIND_LETTERS[kind]}([1-9][0-9]{{0,2}})-[0-9a-f]{{16}}\Z") for kind in ENTITY_KINDS
}
_MAX_KEY_ID = 255
_JSON_TYPES: dict[JsonType, frozenset[type]] = {
    "string": frozenset({str}),
    "integer": frozenset({int}),
    "number": frozenset({float, int, type(None)}),
    "boolean": frozenset({bool}),
}
_PLAIN = {name: (_JSON_TYPES[spec.json_type], spec.v2_datatype) for name, spec in CATALOGUE.fields.items()}


def decode_events(tensors: Tensors) -> EventBatch:
    """Builds the batch of n events that a request carries.

    Raises:
        InvalidRequest: a tensor is unknown or does not fit, or an event breaks its schema, is not scored, or carries an
            id that is not a pseudonym.
    """
    for name in tensors.names():
        field = name.removesuffix(_PRESENT)
        if name not in CATALOGUE.fields and (field not in CATALOGUE.fields or field not in tensors):
            raise InvalidRequest(f"field {name!r} is not an event field")
    n = tensors.batch_size([name for name in CATALOGUE.fields if name in tensors] or ["event_id"])
    given: dict[str, Column] = {}
    present: dict[str, Mask] = {}
    for name, spec in CATALOGUE.fields.items():
        if name in tensors:
            given[name], present[name] = _column(tensors, spec, n)
    batch = EventBatch.from_columns(given, present, n)
    # First, because the schemas' message for an id that they refuse could repeat it.
    _check_pseudonyms(batch)
    errors = validate(batch)
    if errors:
        more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
        raise InvalidRequest(f"{errors[0]}{more}")
    _check_scored(batch)
    return batch


def decode_event(tensors: Tensors) -> dict[str, Any] | None:
    """The event of a request that carries one valid event in plain JSON, without its absent fields.

    For every other request it is None, and `decode_events` says what it carries or what is wrong with it.
    """
    event: dict[str, Any] = {}
    for name, datatype, shape, data, raw, _ in tensors:
        accepted, expected = _PLAIN.get(name, (None, ""))
        if accepted is None or datatype != expected or raw is not None or shape != [1] or len(data) != 1:
            return None
        (value,) = data
        if type(value) not in accepted:
            return None
        # An absent text is empty, an absent number null.
        if value is not None and value != "":
            event[name] = value
    return event if _is_plain(event) else None


def _is_plain(event: dict[str, Any]) -> bool:
    for name, pattern in _PSEUDONYMS.items():
        if name in event:
            match = pattern.match(event[name])
            if match is None or int(match[1]) > _MAX_KEY_ID:
                return False
    integers = (value for value in event.values() if type(value) is int)
    return (
        is_valid(event)
        and event["event_type"] in SCORED_EVENT_TYPES
        and all(-(2**63) <= value < 2**63 for value in integers)
        and all(is_utf8(value) for value in event.values() if type(value) is str)
    )


def _column(tensors: Tensors, spec: FieldSpec, n: int) -> tuple[Column, Mask]:
    column = tensors.vector(spec.name, spec.v2_datatype, n).copy()
    if spec.json_type == "string":
        mask = column != ""
    elif spec.json_type == "number":
        mask = ~np.isnan(column)
    else:
        mask = np.ones(n, np.bool_)
    if spec.name + _PRESENT in tensors:
        mask = mask & tensors.vector(spec.name + _PRESENT, "BOOL", n)
    column[~mask] = _NOTHING[spec.json_type]
    return column, np.asarray(mask, np.bool_)


def _check_scored(batch: EventBatch) -> None:
    for row in np.flatnonzero(~np.isin(batch["event_type"].astype(str), SCORED_EVENT_TYPES)):
        raise InvalidRequest(f"row {row}: field 'event_type' {batch['event_type'][row]!r} is not a scored event type")


def _check_pseudonyms(batch: EventBatch) -> None:
    for name, pattern in _PSEUDONYMS.items():
        for row in np.flatnonzero(batch.present[name]):
            match = pattern.match(batch[name][row])
            if match is None or int(match[1]) > _MAX_KEY_ID:
                # The value stays out of the message: it may be a raw id.
                raise InvalidRequest(f"row {row}: field {name!r} is not a pseudonym; send ids as ingestion writes them")
