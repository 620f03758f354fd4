from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from feast import FeatureStore
from sklearn.metrics import average_precision_score

from components.calibration import fit_platt
from components.errors import TooFewLabels
from components.train_lightgbm.bundle import write_bundle
from components.train_lightgbm.logic import (
    STORE_COLUMNS,
    TrainedLightGbm,
    encode,
    raw_scores,
    score,
    train,
    without_store,
)
from components.train_lightgbm.settings import LightGbmSettings
from feature_repo.definitions import definitions
from feature_repo.feature_names import MODEL_FEATURES, PROFILE_KINDS, STORE_FEATURES
from feature_repo.profiles import UNPUBLISHED, profile_features, stored_descriptions
from feature_repo.settings import FeatureSettings
from feature_repo.tiles import ACTIVITY_FEATURES
from feature_repo.views import CITY_NORMS
from inference_services.lightgbm_predictor.scorer import LightGbmScorer

SETTINGS = LightGbmSettings(rounds=60, patience=20, num_leaves=7, feature_fraction=1.0, num_threads=1)


@pytest.fixture(scope="module")
def trained(training_set: pd.DataFrame) -> TrainedLightGbm:
    return train(training_set, SETTINGS)


@pytest.fixture(scope="module")
def scorer(
    trained: TrainedLightGbm, training_set: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory
) -> LightGbmScorer:
    bundle = write_bundle(tmp_path_factory.mktemp("b") / "bundle", trained, training_set, SETTINGS, "0" * 64)
    return LightGbmScorer.load(bundle.folder)


def test_the_signal_is_learnt(trained: TrainedLightGbm, training_set: pd.DataFrame) -> None:
    test = training_set[training_set["split"] == "test"]
    found = average_precision_score(test["y"], score(trained, test)["lgb_raw"])
    assert found > 2 * test["y"].mean()


def test_the_predictor_gives_the_scores_of_training(
    trained: TrainedLightGbm, scorer: LightGbmScorer, training_set: pd.DataFrame
) -> None:
    rows = training_set.tail(300).assign(city=lambda f: f["city"].where(f.index % 7 != 0, "qom"))
    X = scorer.encode({name: rows[name].to_numpy() for name in scorer.features}, len(rows))
    np.testing.assert_array_equal(X, encode(rows, trained.levels))
    expected = score(trained, rows)
    np.testing.assert_array_equal(scorer.score(X).log_odds, expected["lgb_log_odds"])
    np.testing.assert_array_equal(scorer.score(without_store(X)).log_odds, expected["lgb_log_odds_no_store"])


def test_equal_inputs_give_equal_bundles(
    scorer: LightGbmScorer, trained: TrainedLightGbm, training_set: pd.DataFrame, tmp_path: Path
) -> None:
    again = write_bundle(tmp_path / "again", train(training_set, SETTINGS), training_set, SETTINGS, "0" * 64)
    assert again.sha256 == scorer.bundle.sha256


def test_the_future_s_labels_do_not_reach_the_trees(trained: TrainedLightGbm, training_set: pd.DataFrame) -> None:
    flipped = training_set.assign(y=training_set["y"].where(training_set["split"] != "test", 1 - training_set["y"]))
    again = train(flipped, SETTINGS)
    assert again.booster.model_to_string() == trained.booster.model_to_string()
    assert again.calibrations == trained.calibrations


def test_a_store_that_is_down_is_missing_everywhere_and_nothing_else_is() -> None:
    X = without_store(np.ones((2, len(MODEL_FEATURES))))
    assert np.isnan(X[:, STORE_COLUMNS]).all()
    assert np.isnan(X).sum() == 2 * len(STORE_FEATURES)


def test_masked_rows_teach_what_to_do_without_the_store(training_set: pd.DataFrame) -> None:
    """Without the repeated rows a missing store is a state that the trees have never seen."""
    test = training_set[training_set["split"] == "test"]

    def precision(share: float) -> float:
        model = train(training_set, SETTINGS.model_copy(update={"masked_share": share}))
        return float(average_precision_score(test["y"], score(model, test)["lgb_log_odds_no_store"]))

    assert precision(0.5) > precision(0.0)


def test_each_mask_is_calibrated_in_the_mean(trained: TrainedLightGbm, training_set: pd.DataFrame) -> None:
    rows = training_set[training_set["split"] == "calibrate"]
    X = encode(rows, trained.levels)
    for mask, given in (("full", X), ("no_store", without_store(X))):
        probability = trained.calibrations[mask].probability(raw_scores(trained.booster, given))
        assert probability.mean() == pytest.approx(rows["y"].mean(), rel=1e-3)


def test_platt_finds_the_line_that_made_the_labels() -> None:
    rng = np.random.default_rng(0)
    raw = rng.normal(0, 2, 200_000)
    y = (rng.random(len(raw)) < 1 / (1 + np.exp(-(0.5 * raw - 1)))).astype(float)
    fitted = fit_platt(raw, y)
    assert (fitted.slope, fitted.intercept) == pytest.approx((0.5, -1.0), abs=0.03)


def test_platt_needs_both_classes() -> None:
    with pytest.raises(TooFewLabels):
        fit_platt(np.zeros(3), np.zeros(3))


def test_the_reference_sample_is_recent_and_plain(scorer: LightGbmScorer, training_set: pd.DataFrame) -> None:
    with np.load(scorer.bundle.folder / "reference_sample.npz", allow_pickle=False) as sample:
        X, names = sample["X"], sample["features"]
    assert tuple(names) == MODEL_FEATURES
    assert 0 < len(X) <= 2000
    amounts = training_set.set_index("amount")["event_timestamp"]
    oldest = amounts[X[:, MODEL_FEATURES.index("amount")]].min()
    assert oldest > training_set["event_timestamp"].max() - pd.Timedelta(days=7)


def test_the_feature_service_that_a_bundle_names_gives_exactly_its_store_features(
    scorer: LightGbmScorer, redis_url: str, tmp_path: Path
) -> None:
    store = FeatureStore(config=FeatureSettings(redis_url=redis_url, registry=tmp_path / "registry.db").repo_config())
    store.apply(definitions(tmp_path))
    service = store.get_feature_service(scorer.bundle.metadata["feature_service"])
    columns = {f.name for p in service.feature_view_projections for f in p.features}
    given = {name for name in columns if name in ACTIVITY_FEATURES}
    for kind in PROFILE_KINDS:
        stored = stored_descriptions(kind).keys()
        assert stored <= columns
        given |= profile_features(kind, {n: np.zeros(1, np.int64) for n in UNPUBLISHED}, np.ones(1, np.int64)).keys()
        columns -= stored
    assert given == set(scorer.bundle.read_json("features.json")["store"])
    # Nothing else but the norms, which request features are divided by.
    assert columns - given == set(CITY_NORMS)
