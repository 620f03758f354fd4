"""Holds a frame to a pandera schema, and says which column broke which rule, how often, and where first.

pandera and pandas take half a second to load: only steps import this, never the command line or a serving image.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import pandas as pd
import pandera.pandas as pa
from pandera.errors import SchemaError, SchemaErrorReason, SchemaErrors

from components.errors import ComponentError

_MOST_TOLD = 5


def check_frame(
    frame: pd.DataFrame, schema: pa.DataFrameSchema, error: type[ComponentError], *, hidden: Collection[str] = ()
) -> None:
    """Lets a frame pass that keeps every rule of a schema.

    Args:
        frame: the rows; its index says which row is which.
        schema: the rules; its name is that of the table, and each check has its rule in words as `error`. A check of
            the whole frame names the column to blame as its `name`.
        error: what to raise.
        hidden: columns whose values name somebody and must not be told.

    Raises:
        ComponentError: of the type `error`, with every broken rule in one line.
    """
    try:
        schema.validate(frame, lazy=True)
    except SchemaErrors as found:
        told = [_breach(frame, problem, hidden) for problem in found.schema_errors]
        more = f"; and {len(told) - _MOST_TOLD} more" if len(told) > _MOST_TOLD else ""
        raise error(f"{schema.name}: {'; '.join(told[:_MOST_TOLD])}{more}") from None


def _breach(frame: pd.DataFrame, problem: SchemaError, hidden: Collection[str]) -> str:
    cases = problem.failure_cases
    if problem.reason_code is SchemaErrorReason.COLUMN_NOT_IN_DATAFRAME:
        return f"column {cases!r} is missing"
    if problem.reason_code is SchemaErrorReason.DUPLICATES:
        column = problem.schema.unique[-1]
    else:
        column = problem.column_name or problem.check.name
    if problem.reason_code is SchemaErrorReason.WRONG_DATATYPE:
        return f"column {column!r} is of type {frame[column].dtype}, not {problem.schema.dtype}"
    rule = _RULES.get(problem.reason_code) or problem.check.error
    if not isinstance(cases, pd.DataFrame):
        return f"column {column!r} breaks the rule `{rule}`"
    rows = cases["index"].drop_duplicates()
    example = "" if column in hidden else _shown(frame.loc[rows.iloc[0], column])
    return (
        f"column {column!r} breaks the rule `{rule}` in {len(rows):,} of {len(frame):,} rows, "
        f"first in row {rows.iloc[0]}{example}"
    )


# What pandera checks by options of a column, in the words of a check.
_RULES = {
    SchemaErrorReason.SERIES_CONTAINS_NULLS: "must not be empty",
    SchemaErrorReason.SERIES_CONTAINS_DUPLICATES: "must not repeat",
    SchemaErrorReason.DUPLICATES: "must not repeat",
}


def _shown(value: Any) -> str:
    return "" if value is None or value is pd.NA else f" with {value!r:.80}"
