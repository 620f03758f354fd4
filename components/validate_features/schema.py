"""What the rows of a batch view must be, as a pandera schema made from the Feast view and the event schemas."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd
import pandera.pandas as pa
import pyarrow as pyarrow_types
import pyarrow.compute as pc
from feast.types import Array, FeastType, Float32, Float64, Int64

from feature_repo.entities import join_keys
from feature_repo.event_schemas import CATALOGUE
from feature_repo.pseudonyms import ENTITY_KINDS, pseudonym_pattern
from feature_repo.settings import EMBEDDING_DIM

# A city may lack a norm for want of trips; many cities that do are a broken log.
MOST_UNKNOWN_NORMS = 0.2
# Errors go into logs, which name nobody: not even what stands in the place of a pseudonym.
HIDDEN = frozenset(f"{kind}_id" for kind in ENTITY_KINDS)
_TIME = pd.ArrowDtype(pyarrow_types.timestamp("us", "UTC"))
_VECTOR = pyarrow_types.list_(pyarrow_types.float32())


def view_schema(view: Any, cutoff: datetime) -> pa.DataFrameSchema:
    """The schema of a batch view's rows.

    Args:
        view: a Feast view.
        cutoff: no row may be published later.
    """
    stamp = view.batch_source.timestamp_field
    late = pa.Check.le(pd.Timestamp(cutoff), error=f"must not lie after the cutoff {cutoff:%Y-%m-%d %H:%M}")
    keys = join_keys(view.entities)
    columns = {key: _key_column(key) for key in keys}
    columns |= {field.name: _feature_column(field.name, field.dtype) for field in view.features}
    columns[stamp] = pa.Column(_TIME, checks=late)
    instants = [_not_after(field.name, stamp) for field in view.features if field.name.endswith("_us")]
    return pa.DataFrameSchema(columns, checks=instants, unique=[*keys, stamp], name=view.name)


def view_frame(table: pyarrow_types.Table) -> pd.DataFrame:
    """The rows with Arrow's types, in which a missing number is not NaN."""
    frame: pd.DataFrame = table.to_pandas(types_mapper=pd.ArrowDtype)
    return frame


def _key_column(name: str) -> pa.Column:
    kind = name.removesuffix("_id")
    pattern = pseudonym_pattern(kind) if kind in ENTITY_KINDS else CATALOGUE.fields[name].pattern or ""
    text = pd.ArrowDtype(pyarrow_types.string())
    return pa.Column(text, checks=pa.Check.str_matches(pattern, error=f"must match {pattern}"))


def _feature_column(name: str, dtype: FeastType) -> pa.Column:
    if dtype == Int64:
        # -1 where it never happened.
        least = -1 if name.endswith("_last_fraud_us") else 0
        counted = pa.Check.ge(least, error=f"must be at least {least}")
        return pa.Column(pd.ArrowDtype(pyarrow_types.int64()), checks=counted)
    if dtype == Float64:
        return pa.Column(pd.ArrowDtype(pyarrow_types.float64()), checks=[_measured(), _mostly_known()], nullable=True)
    if dtype == Array(Float32):
        return pa.Column(pd.ArrowDtype(_VECTOR), checks=_finite_vectors(), nullable=True)
    raise TypeError(f"no rule for a batch feature of type {dtype}")


def _measured() -> pa.Check:
    return pa.Check(lambda values: (values >= 0) & (values < np.inf), error="must be finite, at least 0")


def _mostly_known() -> pa.Check:
    return pa.Check(
        lambda values: bool(values.isna().mean() <= MOST_UNKNOWN_NORMS),
        ignore_na=False,
        error=f"must be known in {1 - MOST_UNKNOWN_NORMS:.0%} of the rows",
    )


def _not_after(column: str, stamp: str) -> pa.Check:
    def holds(frame: pd.DataFrame) -> Any:
        return frame[column] <= frame[stamp].astype("int64[pyarrow]")

    return pa.Check(holds, name=column, error=f"must not lie after {stamp}", ignore_na=False)


def _finite_vectors() -> pa.Check:
    def hold(values: pd.Series) -> pd.Series:
        vectors = pyarrow_types.chunked_array(pyarrow_types.array(values)).combine_chunks()
        complete = pc.equal(pc.list_value_length(vectors), EMBEDDING_DIM).to_numpy(zero_copy_only=False)
        finite = np.isfinite(vectors.flatten().to_numpy(zero_copy_only=False))
        broken = pc.list_parent_indices(vectors).to_numpy(zero_copy_only=False)[~finite]
        complete[broken] = False
        return pd.Series(complete, index=values.index)

    return pa.Check(hold, error=f"must be {EMBEDDING_DIM} finite numbers")
