"""The directions in which a feature may move LightGBM's risk."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from components.train_lightgbm.logic import STORE_COLUMNS, encode, raw_scores, train
from components.train_lightgbm.monotone import CONSTRAINTS, Monotone, monotone_directions
from components.train_lightgbm.settings import LightGbmSettings
from feature_repo.feature_names import CATEGORICAL_FEATURES, MODEL_FEATURES

SETTINGS = LightGbmSettings(rounds=40, patience=20, num_leaves=7, feature_fraction=1.0, num_threads=1)


def rises_and_falls(training_set: pd.DataFrame, name: str, settings: LightGbmSettings) -> tuple[bool, bool]:
    """Whether the risk of any event ever rises, and ever falls, as one feature grows."""
    trained = train(training_set, settings)
    X = encode(training_set[training_set["split"] == "test"].head(100), trained.levels)
    position = MODEL_FEATURES.index(name)
    scores = []
    for value in np.quantile(training_set[name], np.linspace(0, 1, 25)):
        X[:, position] = value
        scores.append(raw_scores(trained.booster, X))
    steps = np.diff(np.array(scores), axis=0)
    return bool((steps > 1e-12).any()), bool((steps < -1e-12).any())


@pytest.mark.parametrize("direction", [1, -1])
@pytest.mark.parametrize("constraint", CONSTRAINTS, ids=lambda c: c.pattern)
def test_no_event_s_risk_moves_against_the_domain(
    training_set: pd.DataFrame, constraint: Monotone, direction: int
) -> None:
    """Labels that follow the feature's wave, first one way, then the other: the trees take the allowed half only."""
    name = next(f for f in MODEL_FEATURES if monotone_directions([f], [constraint])[0])
    wave = np.abs(training_set[name].rank(pct=True) - 0.5) * direction
    noise = np.random.default_rng(1).random(len(training_set))
    frame = training_set.assign(y=(wave + 0.1 * noise > np.quantile(wave + 0.1 * noise, 0.9)).astype(float))
    free = rises_and_falls(frame, name, SETTINGS.model_copy(update={"monotone": "off"}))
    assert free == (True, True)
    rose, fell = rises_and_falls(frame, name, SETTINGS)
    assert (rose, fell) == ((True, False) if constraint.direction > 0 else (False, True))


def test_every_constraint_is_of_features_that_exist_and_none_of_a_category() -> None:
    for constraint in CONSTRAINTS:
        assert any(monotone_directions(MODEL_FEATURES, [constraint])), constraint.pattern
        assert constraint.reason
    directions = dict(zip(MODEL_FEATURES, monotone_directions(MODEL_FEATURES), strict=True))
    assert not any(directions[name] for name in CATEGORICAL_FEATURES)
    assert set(directions.values()) <= {-1, 0, 1}
    assert len(STORE_COLUMNS)
