"""What a training set must be, as a pandera schema made from the feature definitions."""

from __future__ import annotations

import math
from functools import cache
from itertools import pairwise

import numpy as np
import pandas as pd
import pandera.pandas as pa

from components.build_training_set.logic import NO_SPLIT, SPLITS
from components.errors import InvalidFeatures
from components.frame_checks import check_frame
from feature_repo.event_schemas import CATALOGUE, SCORED_EVENT_TYPES
from feature_repo.feature_names import MODEL_FEATURES, PROFILE_FEATURES
from feature_repo.profiles import LONGEST_DAYS_SINCE_FRAUD
from feature_repo.request_features import EARTH_RADIUS_M, REQUEST_FEATURES
from feature_repo.tiles import ACTIVITY_KINDS, LONGEST_WINDOW_S, WINDOWS, ActivityKind

# The request features that are no event field and have a bound besides 0.
_UPPER = {
    "hour_of_day": 23.0,
    "day_of_week": 6.0,
    "has_payment_instrument": 1.0,
    "straight_line_m": math.pi * EARTH_RADIUS_M,
}


def check_training_set(frame: pd.DataFrame) -> None:
    """Lets a training set pass whose every feature lies where its definition puts it.

    Raises:
        InvalidFeatures: with the columns, the rules, how many rows break them and the first.
    """
    check_frame(frame, training_schema(), InvalidFeatures, hidden={"rider_id"})


@cache
def training_schema() -> pa.DataFrameSchema:
    """Ranges and nulls of every column: what the store knows is never empty, what an event lacks may be."""
    features = {name: _request_column(name) for name in REQUEST_FEATURES}
    for kind in ACTIVITY_KINDS.values():
        features |= {name: pa.Column(float, _range(0, math.inf)) for name in kind.feature_names()}
        features[f"{kind.name}_age_s"] = pa.Column(float, _range(0, LONGEST_WINDOW_S))
    features |= {name: pa.Column(float, _range(0, _most(name))) for name in PROFILE_FEATURES}
    features["event_type"] = pa.Column(checks=_one_of(SCORED_EVENT_TYPES))
    features["city"] = pa.Column()
    keys = {
        "event_id": pa.Column(unique=True),
        "event_timestamp": pa.Column(),
        "stream_seq": pa.Column(unique=True),
        "rider_id": pa.Column(),
        "y": pa.Column(checks=pa.Check.isin([0.0, 1.0], error="must be 0 or 1 where it is known"), nullable=True),
        "split": pa.Column(checks=_one_of((*SPLITS, NO_SPLIT))),
    }
    nested = [check for kind in ACTIVITY_KINDS.values() for check in _nested(kind)]
    columns = keys | {name: features[name] for name in MODEL_FEATURES}
    return pa.DataFrameSchema(columns, checks=nested, name="training set")


def _most(profile_feature: str) -> float:
    return LONGEST_DAYS_SINCE_FRAUD if profile_feature.endswith("_days_since_fraud") else math.inf


def _request_column(name: str) -> pa.Column:
    spec = CATALOGUE.fields.get(name)
    if spec is None or spec.json_type == "boolean":
        return pa.Column(float, _range(0, _UPPER.get(name, math.inf if spec is None else 1.0)), nullable=True)
    low, high = spec.minimum, spec.maximum
    return pa.Column(
        float, _range(-math.inf if low is None else low, math.inf if high is None else high), nullable=True
    )


def _range(low: float, high: float) -> pa.Check:
    """Finite, and within the bounds; empty values are another matter."""
    return pa.Check(
        lambda values: np.isfinite(values) & (values >= low) & (values <= high),
        error=f"must be between {low:g} and {high:g}" if math.isfinite(high) else f"must be finite, at least {low:g}",
    )


def _one_of(values: tuple[str, ...]) -> pa.Check:
    return pa.Check.isin(values, error=f"must be one of {', '.join(values)}")


def _nested(kind: ActivityKind) -> list[pa.Check]:
    """Windows nest, so whatever is counted or added up in one is at most what it is in the next."""
    checks = []
    for measure in kind.measures:
        for shorter, longer in pairwise(WINDOWS):
            inner, outer = (f"{kind.name}_{measure.name}_{w.name}" for w in (shorter, longer))
            checks.append(
                pa.Check(
                    lambda frame, inner=inner, outer=outer: frame[inner] <= frame[outer],
                    name=inner,
                    error=f"must not exceed {outer}",
                    ignore_na=False,  # else pandera looks for rows that are empty altogether, at every check
                )
            )
    return checks
