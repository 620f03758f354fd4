"""Checks a batch of events against the schemas, a column at a time.

Gives the verdict that a JSON Schema validator gives for each event (a test holds the two together), without an
interpreter loop over the events.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from feature_repo.event_schemas.catalogue import CATALOGUE, EVENT_TYPES, FieldSpec


class Columns(Protocol):
    """What is validated: an `EventBatch`, named here by shape so that the schemas depend on nothing."""

    @property
    def columns(self) -> Any:
        """Field name -> array of shape [n]."""

    @property
    def present(self) -> Any:
        """Field name -> mask of shape [n]."""


@dataclass(frozen=True, slots=True)
class FieldError:
    """Why one field of one event is refused."""

    row: int
    field: str
    reason: str

    def __str__(self) -> str:
        return f"row {self.row}: field {self.field!r} {self.reason}"


def validate(batch: Columns) -> list[FieldError]:
    """Returns every breach of the schemas in the batch, ordered by row; empty when all events are valid."""
    errors = [*_presence(batch), *_values(batch)]
    return sorted(errors, key=lambda e: (e.row, e.field))


def is_valid(event: Mapping[str, Any]) -> bool:
    """Whether `validate` finds nothing in one event, given without its absent fields, each of its field's type.

    For single events, for which operations on columns cost more than the checks.
    """
    event_type = event.get("event_type")
    if event_type not in CATALOGUE.required or not CATALOGUE.required[event_type] <= event.keys():
        return False
    allowed = CATALOGUE.allowed[event_type]
    return all(name in allowed and _accepts(CATALOGUE.fields[name])(value) for name, value in event.items())


def _presence(batch: Columns) -> Iterator[FieldError]:
    types = batch.columns["event_type"]
    for event_type in EVENT_TYPES:
        of_type = types == event_type
        if not of_type.any():
            continue
        for name in CATALOGUE.fields:
            present = batch.present[name]
            if name in CATALOGUE.required[event_type]:
                for row in np.flatnonzero(of_type & ~present):
                    yield FieldError(int(row), name, f"is required for {event_type}")
            elif name not in CATALOGUE.allowed[event_type]:
                for row in np.flatnonzero(of_type & present):
                    yield FieldError(int(row), name, f"does not belong to {event_type}")
    for name in ("event_type", "event_id"):
        for row in np.flatnonzero(~batch.present[name]):
            yield FieldError(int(row), name, "is required")


def _values(batch: Columns) -> Iterator[FieldError]:
    for name, spec in CATALOGUE.fields.items():
        rows = np.flatnonzero(batch.present[name])
        if len(rows) == 0:
            continue
        check = _bad_strings if spec.json_type == "string" else _bad_numbers
        if spec.json_type != "boolean":
            for position, reason in check(batch.columns[name][rows], spec):
                yield FieldError(int(rows[position]), name, reason)


def _bad_numbers(values: NDArray[Any], spec: FieldSpec) -> Iterator[tuple[int, str]]:
    low, high = _bounds(spec)
    # Written so that NaN, which compares false with everything, is refused.
    for position in np.flatnonzero(~((values >= low) & (values <= high))):
        yield int(position), f"must be between {low:g} and {high:g}, not {values[position]}"


def _bounds(spec: FieldSpec) -> tuple[float, float]:
    return -np.inf if spec.minimum is None else spec.minimum, np.inf if spec.maximum is None else spec.maximum


def _bad_strings(values: NDArray[Any], spec: FieldSpec) -> Iterator[tuple[int, str]]:
    accepts = _string_check(spec)
    # Cities and enumerations repeat: each distinct value is judged once.
    verdicts: dict[str, str | None] = {}
    for position, value in enumerate(values):
        if value not in verdicts:
            verdicts[value] = accepts(value)
        reason = verdicts[value]
        if reason is not None:
            yield position, reason


@cache
def _accepts(spec: FieldSpec) -> Callable[[Any], bool]:
    if spec.json_type == "boolean":
        return lambda _: True
    if spec.json_type == "string":
        reason = _string_check(spec)
        return lambda value: reason(value) is None
    low, high = _bounds(spec)
    return lambda value: low <= value <= high


@cache
def _string_check(spec: FieldSpec) -> Any:
    # JSON Schema anchors with ECMA "$", which does not match before a final newline as Python's does.
    pattern = re.compile((spec.pattern or "").removesuffix("$") + r"\Z" if spec.pattern else "")

    # Errors go into logs and dead letters, which carry pseudonyms only.
    names_somebody = spec.name.endswith("_id") and spec.name not in {"event_id", "trip_id"}

    def reason(value: str) -> str | None:
        if spec.enum and value not in spec.enum:
            return f"must be one of {', '.join(spec.enum)}, not {value!r:.80}"
        if spec.max_length is not None and not 1 <= len(value) <= spec.max_length:
            return f"must have 1 to {spec.max_length} characters"
        if spec.pattern and not pattern.match(value):
            return f"must match {spec.pattern}" + ("" if names_somebody else f", not {value!r:.80}")
        return None

    return reason
