"""A training set with one broken column is refused, and the message says which and why."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from pandera.errors import SchemaErrors

from components.build_training_set.logic import SplitSettings, build
from components.build_training_set.schema import check_training_set, training_schema
from components.errors import InvalidFeatures
from feature_repo.datasets import Dataset
from feature_repo.feature_names import CATEGORICAL_FEATURES, MODEL_FEATURES, STORE_FEATURES
from feature_repo.request_features import REQUEST_FEATURES
from feature_repo.tiles import ACTIVITY_FEATURES, LONGEST_WINDOW_S
from inference_services.policy_settings import DEFAULT_MATURATION

ROW = 7


@pytest.fixture(scope="module")
def good(small_dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    work = tmp_path_factory.mktemp("build")
    return build(small_dataset, work, {DEFAULT_MATURATION: 1}, SplitSettings(warm_up_days=1, train_share=0.5))


def refusal(good: pd.DataFrame, column: str, value: object) -> str:
    """What the check says of one spoilt cell."""
    frame = good.copy()
    frame[column] = frame[column].mask(np.arange(len(frame)) == ROW, value)  # type: ignore[arg-type]
    with pytest.raises(InvalidFeatures) as caught:
        check_training_set(frame)
    return str(caught.value)


def test_a_real_training_set_passes(good: pd.DataFrame) -> None:
    check_training_set(good)


def spoilt(good: pd.DataFrame, columns: tuple[str, ...], value: float) -> pd.DataFrame:
    """The training set with one bad cell for each column, each in a row of its own."""
    frame = good.copy()
    for row, column in enumerate(columns):
        frame[column] = frame[column].mask(frame.index == row, value)
    return frame


def refused_cells(frame: pd.DataFrame) -> set[tuple[str, int]]:
    with pytest.raises(SchemaErrors) as caught:
        training_schema().validate(frame, lazy=True)
    columns = [problem for problem in caught.value.schema_errors if problem.column_name != "training set"]
    return {(p.column_name, int(row)) for p in columns for row in p.failure_cases["index"] if p.column_name}


@pytest.mark.parametrize("value", [np.nan, -1.0, np.inf])
def test_what_the_store_knows_is_never_empty_negative_or_infinite(good: pd.DataFrame, value: float) -> None:
    refused = refused_cells(spoilt(good, STORE_FEATURES, value))
    assert refused == {(column, row) for row, column in enumerate(STORE_FEATURES)}


def test_a_request_feature_may_be_empty_and_keeps_its_range(good: pd.DataFrame) -> None:
    check_training_set(spoilt(good, REQUEST_FEATURES, np.nan))
    refused = refused_cells(spoilt(good, REQUEST_FEATURES, -0.5))
    assert refused == {(column, row) for row, column in enumerate(REQUEST_FEATURES)}


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("rider_requests_1h", np.nan, "`must not be empty`"),
        ("rider_age_s", LONGEST_WINDOW_S + 1.0, "`must be between 0 and 2.592e+06`"),
        ("driver_days_since_fraud", 30.5, "`must be between 0 and 30`"),
        ("hour_of_day", 24.0, "`must be between 0 and 23`"),
        ("surge", 10.5, "`must be between 0.5 and 10`"),
        ("promo_applied", 2.0, "`must be between 0 and 1`"),
        ("rider_requests_1h", 1e6, "`must not exceed rider_requests_24h`"),
        ("driver_fare_sum_7d", 1e12, "`must not exceed driver_fare_sum_30d`"),
        ("event_type", "trip_cancelled", "`must be one of trip_requested"),
        ("city", None, "`must not be empty`"),
        ("split", "later", "`must be one of train, valid, calibrate, test, none`"),
        ("y", 0.5, "`must be 0 or 1 where it is known`"),
        ("stream_seq", 0, ""),
    ],
)
def test_each_rule_names_its_column(good: pd.DataFrame, column: str, value: object, message: str) -> None:
    frame = good.assign(stream_seq=np.where(np.arange(len(good)) == 3, 0, good["stream_seq"]))
    told = refusal(frame, column, value)
    assert f"training set: column '{column}' breaks the rule {message or '`must not repeat`'}" in told
    assert f" of {len(good):,} rows, first in row {3 if column == 'stream_seq' else ROW}" in told


def test_a_missing_feature_is_named(good: pd.DataFrame) -> None:
    with pytest.raises(InvalidFeatures, match="column 'rider_tenure_days' is missing"):
        check_training_set(good.drop(columns=["rider_tenure_days"]))


def test_many_broken_columns_make_one_readable_line(good: pd.DataFrame) -> None:
    frame = good.copy()
    frame.loc[ROW, list(ACTIVITY_FEATURES)] = np.nan
    with pytest.raises(InvalidFeatures, match=r"; and \d+ more$") as caught:
        check_training_set(frame)
    assert len(str(caught.value)) < 1000


def test_every_model_feature_has_a_rule() -> None:
    assert set(MODEL_FEATURES) == {*CATEGORICAL_FEATURES, *REQUEST_FEATURES, *STORE_FEATURES}
