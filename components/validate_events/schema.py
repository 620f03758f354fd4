"""What the events and labels of a dataset must be, as pandera schemas made from the event schemas."""

from __future__ import annotations

from functools import cache

import pandas as pd
import pandera.pandas as pa
import pyarrow as pyarrow_types

from components.labels import LABEL_SOURCES
from feature_repo.event_schemas import CATALOGUE, EVENT_TYPES, FieldSpec
from feature_repo.event_schemas.catalogue import JsonType
from feature_repo.pseudonyms import ENTITY_KINDS, pseudonym_pattern

# Errors go into logs, which name nobody: not even what stands in the place of a pseudonym.
HIDDEN = frozenset(f"{kind}_id" for kind in ENTITY_KINDS)
_TIME = pyarrow_types.timestamp("us", "UTC")
# With Arrow's types a missing number and NaN differ, as in JSON.
_TYPES: dict[JsonType, pd.ArrowDtype] = {
    "string": pd.ArrowDtype(pyarrow_types.string()),
    "integer": pd.ArrowDtype(pyarrow_types.int64()),
    "number": pd.ArrowDtype(pyarrow_types.float64()),
    "boolean": pd.ArrowDtype(pyarrow_types.bool_()),
}


def event_frame(events: pyarrow_types.Table) -> pd.DataFrame:
    """The events with Arrow's types, and `event_timestamp` as the integer that the event schemas describe."""
    frame: pd.DataFrame = events.to_pandas(types_mapper=pd.ArrowDtype)
    if frame["event_timestamp"].dtype == pd.ArrowDtype(_TIME):
        frame["event_timestamp"] = frame["event_timestamp"].astype(_TYPES["integer"])
    return frame


@cache
def log_schema() -> pa.DataFrameSchema:
    """What holds for events of every type: all columns are there, each event is numbered once, ids are pseudonyms."""
    columns = {name: pa.Column(nullable=True) for name in CATALOGUE.fields}
    for kind in ENTITY_KINDS:
        pseudonym = pa.Check.str_matches(pseudonym_pattern(kind), error="must be a pseudonym")
        columns[f"{kind}_id"] = pa.Column(checks=pseudonym, nullable=True)
    columns |= {
        "event_id": pa.Column(unique=True),
        "event_type": pa.Column(checks=_checks(CATALOGUE.fields["event_type"])),
        "stream_seq": pa.Column(_TYPES["integer"], unique=True),
        "ingested_at": pa.Column(pd.ArrowDtype(_TIME)),
    }
    return pa.DataFrameSchema(columns, name="events")


@cache
def event_schema(event_type: str) -> pa.DataFrameSchema:
    """What holds for the events of one type: the JSON Schema of its version, field by field."""
    if event_type not in EVENT_TYPES:
        raise ValueError(f"no event type {event_type!r}")
    required, allowed = CATALOGUE.required[event_type], CATALOGUE.allowed[event_type]
    columns = {
        name: pa.Column(_TYPES[spec.json_type], _checks(spec), nullable=name not in required)
        if name in allowed
        else pa.Column(checks=_absent(event_type), nullable=True)
        for name, spec in CATALOGUE.fields.items()
    }
    return pa.DataFrameSchema(columns, name=f"events of type {event_type}")


@cache
def label_schema(before: pd.Timestamp) -> pa.DataFrameSchema:
    """What holds for the labels that were observed before an instant."""
    known = pa.Check.isin(LABEL_SOURCES, error=f"must be one of {', '.join(LABEL_SOURCES)}")
    observed = pa.Check.lt(before, error=f"must lie before the cutoff {before:%Y-%m-%d}")
    return pa.DataFrameSchema(
        {
            "event_id": pa.Column(),
            "is_fraud": pa.Column(checks=pa.Check.isin([True, False], error="must be true or false")),
            "typology": pa.Column(nullable=True),
            "source": pa.Column(checks=known),
            "observed_at": pa.Column(checks=observed),
        },
        name="labels",
    )


def _checks(spec: FieldSpec) -> list[pa.Check]:
    checks = []
    if spec.enum:
        checks.append(pa.Check.isin(spec.enum, error=f"must be one of {', '.join(spec.enum)}"))
    if spec.max_length is not None:
        error = f"must have 1 to {spec.max_length} characters"
        checks.append(pa.Check.str_length(1, spec.max_length, error=error))
    if spec.pattern:
        checks.append(pa.Check.str_matches(spec.pattern, error=f"must match {spec.pattern}"))
    if spec.minimum is not None:
        checks.append(pa.Check.ge(spec.minimum, error=f"must be at least {spec.minimum:g}"))
    if spec.maximum is not None:
        checks.append(pa.Check.le(spec.maximum, error=f"must be at most {spec.maximum:g}"))
    return checks


def _absent(event_type: str) -> pa.Check:
    return pa.Check(lambda values: values.isna(), error=f"must be empty in {event_type}")
