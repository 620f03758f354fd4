"""What LightGBM's training does with data that it cannot, or should not, learn from."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from components.errors import TooFewLabels
from components.train_lightgbm.bundle import write_bundle
from components.train_lightgbm.logic import encode, prepare, score, train, unused_features
from components.train_lightgbm.settings import LightGbmSettings
from feature_repo.feature_names import MODEL_FEATURES
from inference_services.lightgbm_predictor.scorer import LightGbmScorer

SETTINGS = LightGbmSettings(rounds=15, patience=10, num_leaves=7, feature_fraction=1.0, num_threads=1)


@pytest.mark.parametrize("split", ["train", "valid", "calibrate"])
@pytest.mark.parametrize("y", [0.0, 1.0])
def test_one_class_only_is_refused_by_split(training_set: pd.DataFrame, split: str, y: float) -> None:
    only = training_set.assign(y=training_set["y"].where(training_set["split"] != split, y))
    with pytest.raises(TooFewLabels, match=rf"split '{split}' has \d+ fraud and \d+ honest events: wait for labels"):
        train(only, SETTINGS)


def test_no_labels_at_all_are_refused(training_set: pd.DataFrame) -> None:
    with pytest.raises(TooFewLabels, match="split 'train' has 0 fraud and 0 honest"):
        train(training_set.assign(y=np.nan), SETTINGS)


def test_one_event_is_refused(training_set: pd.DataFrame) -> None:
    with pytest.raises(TooFewLabels, match="split 'train' has"):
        train(training_set.head(1), SETTINGS)


def days_of(frame: pd.DataFrame) -> pd.Series:
    return (frame["event_timestamp"].dt.date - date(2026, 1, 3)).map(lambda d: d.days)


def test_an_empty_week_within_the_training_days_is_no_obstacle(training_set: pd.DataFrame) -> None:
    days = days_of(training_set)
    trained = train(training_set[(days < 2) | (days >= 9)], SETTINGS)
    assert trained.fraud > 0


def test_empty_validation_days_are_named(training_set: pd.DataFrame) -> None:
    with pytest.raises(TooFewLabels, match="split 'valid' has no events: a week may be missing"):
        train(training_set[training_set["split"] != "valid"], SETTINGS)


def test_a_feature_that_says_nothing_is_named_and_not_used(
    training_set: pd.DataFrame, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A constant of the store is not even used to tell that the store is down."""
    mute = {"rider_requests_7d": 3.0, "speed_kmh": np.nan, "city": "tehran"}
    frame = training_set.assign(**mute)
    trained = train(frame, SETTINGS)
    assert trained.unused == {"speed_kmh": "empty", "rider_requests_7d": "constant", "city": "constant"}
    assert "trained without 3 of" in caplog.text
    assert "speed_kmh (empty)" in caplog.text
    binned = prepare(frame, SETTINGS).train_set
    # Of a column without a value LightGBM makes two bins, of which one is never filled.
    seen = {name: binned.feature_num_bin(i) > 2 for i, name in enumerate(MODEL_FEATURES)}
    assert {name for name, varies in seen.items() if not varies} == set(mute)
    bundle = write_bundle(tmp_path / "bundle", trained, frame, SETTINGS, "0" * 64)
    assert bundle.metadata["unused_features"] == trained.unused
    card = (bundle.folder / "model_card.md").read_text()
    assert "WARNING, 3 features said nothing in the training rows: speed_kmh (empty), " in card
    # Whatever it says later changes no score.
    later = encode(training_set.tail(50), trained.levels)
    np.testing.assert_array_equal(
        LightGbmScorer.load(bundle.folder).score(later).raw_score, score(trained, frame.tail(50))["lgb_raw"]
    )


def test_an_empty_cell_beside_one_value_says_something() -> None:
    X = np.ones((3, len(MODEL_FEATURES))) * np.array([[1.0], [2.0], [3.0]])
    X[:, 4], X[0, 4], X[:, 5], X[:, 6] = 1.0, np.nan, np.nan, 7.0
    assert unused_features(X) == {MODEL_FEATURES[5]: "empty", MODEL_FEATURES[6]: "constant"}


def test_a_city_never_seen_in_training_is_scored_as_unknown(training_set: pd.DataFrame) -> None:
    trained = train(training_set, SETTINGS)
    rows = training_set.tail(20)
    scores = [score(trained, rows.assign(city=city))["lgb_log_odds"] for city in ("qom", "shiraz")]
    assert np.isfinite(scores[0]).all()
    np.testing.assert_array_equal(*scores)
