"""Events as columns: the form in which they are validated, featurised and stored."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from feature_repo.errors import InvalidEvents
from feature_repo.event_schemas import CATALOGUE
from feature_repo.event_schemas.catalogue import JsonType

if TYPE_CHECKING:
    import pyarrow as pa

Column = NDArray[Any]
Mask = NDArray[np.bool_]

_DTYPES: dict[JsonType, Any] = {
    "string": object,
    "integer": np.int64,
    "number": np.float64,
    "boolean": np.bool_,
}
_ABSENT: dict[JsonType, Any] = {"string": "", "integer": 0, "number": np.nan, "boolean": False}
_PYTHON_TYPES: dict[JsonType, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (float, int),
    "boolean": (bool,),
}


@dataclass(frozen=True)
class EventBatch:
    """n events, one array of shape [n] per catalogue field.

    Attributes:
        columns: every catalogue field. Strings are object arrays, integers int64, numbers float64, booleans
            bool; where a value is absent they hold "", 0, NaN and False.
        present: for every field, which rows carry a value.
    """

    columns: Mapping[str, Column]
    present: Mapping[str, Mask]

    def __len__(self) -> int:
        return len(self.columns["event_id"])

    def __getitem__(self, name: str) -> Column:
        return self.columns[name]

    @classmethod
    def from_columns(cls, given: Mapping[str, Column], present: Mapping[str, Mask], n: int) -> EventBatch:
        """Completes the given columns with absent ones.

        Args:
            given: arrays of shape [n] of the dtype of their field.
            present: masks for those of the given columns that have absent rows.
            n: number of events.
        """
        columns: dict[str, Column] = {}
        masks: dict[str, Mask] = {}
        for name, spec in CATALOGUE.fields.items():
            if name in given:
                columns[name] = given[name]
                masks[name] = present[name] if name in present else np.ones(n, np.bool_)
            else:
                columns[name], masks[name] = _absent(spec.json_type, n)
        return cls(columns, masks)

    @classmethod
    def from_rows(cls, rows: Sequence[Mapping[str, Any]]) -> EventBatch:
        """Builds a batch from JSON-like records.

        Raises:
            InvalidEvents: a record has an unknown field or a value of the wrong JSON type.
        """
        for index, row in enumerate(rows):
            for name, value in row.items():
                reason = field_problem(name, value)
                if reason is not None:
                    raise InvalidEvents(f"row {index}: field {name!r} {reason}")
        return cls.from_checked_rows(rows)

    @classmethod
    def from_checked_rows(cls, rows: Sequence[Mapping[str, Any]]) -> EventBatch:
        """As `from_rows`, of records in which `field_problem` has found nothing."""
        n = len(rows)
        given: dict[str, Column] = {}
        present: dict[str, Mask] = {}
        for name in {field for row in rows for field in row}:
            json_type = CATALOGUE.fields[name].json_type
            values = [row.get(name) for row in rows]
            if None in values:
                present[name] = np.array([v is not None for v in values], np.bool_)
                values = [_ABSENT[json_type] if v is None else v for v in values]
            given[name] = np.array(values, _DTYPES[json_type])
        return cls.from_columns(given, present, n)

    @classmethod
    def from_arrow(cls, table: pa.Table) -> EventBatch:
        """Builds a batch from a table that has catalogue fields as (nullable) columns; others are ignored."""
        import pyarrow as pa  # noqa: PLC0415 - the transformer's image has no pyarrow
        import pyarrow.compute as pc  # noqa: PLC0415

        given: dict[str, Column] = {}
        present: dict[str, Mask] = {}
        for name in CATALOGUE.fields.keys() & set(table.column_names):
            json_type = CATALOGUE.fields[name].json_type
            column = table.column(name)
            present[name] = column.is_valid().to_numpy()
            if name == "event_timestamp" and pa.types.is_timestamp(column.type):
                column = column.cast(pa.timestamp("us", "UTC")).cast(pa.int64())
            filled = pc.fill_null(column, _ABSENT[json_type])
            given[name] = filled.to_numpy().astype(_DTYPES[json_type], copy=False)
        return cls.from_columns(given, present, table.num_rows)

    def to_arrow(self) -> pa.Table:
        """The batch as a table: all catalogue fields, nullable, `event_timestamp` as timestamp[us, UTC]."""
        import pyarrow as pa  # noqa: PLC0415

        arrays = {}
        for name, type_ in arrow_types().items():
            array = pa.array(self.columns[name], type_, mask=~self.present[name])
            arrays[name] = array.cast(pa.timestamp("us", "UTC")) if name == "event_timestamp" else array
        return pa.table(arrays)

    def row(self, index: int) -> dict[str, Any]:
        """Event `index` as a JSON-like record without its absent fields."""
        record: dict[str, Any] = {}
        for name, column in self.columns.items():
            if self.present[name][index]:
                value = column[index]
                record[name] = value.item() if isinstance(value, np.generic) else value
        return record

    def rows(self) -> Iterable[dict[str, Any]]:
        """All events as JSON-like records."""
        return (self.row(i) for i in range(len(self)))

    def take(self, index: NDArray[Any]) -> EventBatch:
        """The events at `index` (positions or a mask)."""
        return EventBatch(
            {name: column[index] for name, column in self.columns.items()},
            {name: mask[index] for name, mask in self.present.items()},
        )


@lru_cache(maxsize=1024)
def _absent(json_type: JsonType, n: int) -> tuple[Column, Mask]:
    """A column without values, and its mask: shared by batches, so not to be written to."""
    column, mask = np.full(n, _ABSENT[json_type], _DTYPES[json_type]), np.zeros(n, np.bool_)
    column.flags.writeable = mask.flags.writeable = False
    return column, mask


def arrow_types() -> dict[str, pa.DataType]:
    """The arrow type of each catalogue field as JSON carries it: `event_timestamp` is an integer still."""
    import pyarrow as pa  # noqa: PLC0415

    types = {"string": pa.string(), "integer": pa.int64(), "number": pa.float64(), "boolean": pa.bool_()}
    return {name: types[spec.json_type] for name, spec in CATALOGUE.fields.items()}


def field_problem(name: str, value: Any) -> str | None:
    """Why a value cannot stand in a field of a batch, whatever the event type; None when it can, or is absent."""
    spec = CATALOGUE.fields.get(name)
    if spec is None:
        return "is not a field of any event"
    if value is None:
        return None
    wrong_bool = isinstance(value, bool) and spec.json_type != "boolean"
    # JSON has one kind of number: 5.0 is an integer there.
    whole = spec.json_type == "integer" and isinstance(value, float) and value.is_integer()
    if wrong_bool or not (whole or isinstance(value, _PYTHON_TYPES[spec.json_type])):
        # Reasons are logged and kept, and a raw id must not be.
        said = "" if name.endswith("_id") else f", not {value!r:.80}"
        return f"must be a JSON {spec.json_type}{said}"
    if spec.json_type == "integer" and not -(2**63) <= value < 2**63:
        return "does not fit a 64-bit integer"
    return None
