"""The checks can fail: each measure sees a leak that is planted, and none where there is none."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from components.evaluate.rules import RULES, rule_score
from pipelines.prequential.controls import shuffle_edges
from tests.checks import measures
from tests.checks.neighbours import neighbour_rows
from tests.checks.raw_fields import id_row
from tests.checks.worlds import splits

N, FRAUD = 4000, 60


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(5)


@pytest.fixture
def fraud() -> np.ndarray:
    return np.arange(N) < FRAUD


def pair_auc(a: np.ndarray, b: np.ndarray, fraud: np.ndarray, rng: np.random.Generator) -> float:
    fold = measures.fold_of(np.arange(N), rng)
    return measures.auc(measures.cross_fitted_score(measures.bins(a), measures.bins(b), fraud, fold), fraud)


def test_a_pair_that_gives_fraud_away_is_seen_though_neither_field_does(
    rng: np.random.Generator, fraud: np.ndarray
) -> None:
    a = rng.random(N)
    # Together they decide (both high or both low), apart they say nothing.
    b = np.where(fraud, a, rng.random(N))
    assert pair_auc(a, b, fraud, rng) > 0.8
    assert abs(pair_auc(b, np.zeros(N), fraud, rng) - 0.5) < 0.12


def test_noise_earns_nothing_however_many_cells_there_are(rng: np.random.Generator, fraud: np.ndarray) -> None:
    areas = [pair_auc(rng.random(N), rng.random(N), fraud, rng) for _ in range(10)]
    assert abs(np.mean(areas) - 0.5) < 0.04
    assert max(areas) < 0.65


def test_missing_values_and_words_are_bins_of_their_own() -> None:
    assert measures.bins(np.array([np.nan, 1.0, 2.0, np.nan]))[[0, 3]].tolist() == [0, 0]
    assert len(set(measures.bins(np.array(["a", None, "b", "a"], object)).tolist())) == 3


def test_precision_within_types_gives_no_credit_for_telling_types_apart(rng: np.random.Generator) -> None:
    event_type = np.repeat(["rare", "common"], 2000)
    y = np.concatenate([rng.random(2000) < 0.01, rng.random(2000) < 0.2]).astype(float)
    by_type = (event_type == "common").astype(float)
    chance = sum(y[event_type == t].sum() * y[event_type == t].mean() for t in ("rare", "common")) / y.sum()
    assert measures.precision_within(y, by_type, event_type) == pytest.approx(chance)
    assert measures.precision_within(y, y, event_type) == 1.0


def test_the_stability_index_tells_a_moved_population_from_noise(rng: np.random.Generator) -> None:
    assert measures.stability_index(rng.normal(size=3000), rng.normal(size=3000)) < 0.02
    assert measures.stability_index(rng.normal(size=3000), rng.normal(0.7, 1, 3000)) > 0.25


@pytest.mark.parametrize("leaks", [False, True])
def test_ids_that_tell_the_order_of_the_story_are_seen(leaks: bool, rng: np.random.Generator) -> None:
    n = 12_000
    rider = rng.integers(0, 3000, n)
    fraud = (rider > 2800 if leaks else rng.random(3000)[rider] > 0.95) & (rng.random(n) < 0.5)
    frame = pd.DataFrame({"rider_id": [f"rider-{r:06d}" for r in rider], "event_type": "trip_requested", "world": 1})
    for kind in ("driver", "device", "payment_instrument"):
        frame[f"{kind}_id"] = [f"{kind}-{k:06d}" for k in rng.integers(0, 900, n)]
    assert id_row(frame.assign(is_fraud=fraud), rng).met is not leaks


def test_rules_are_about_real_features_and_each_can_fire() -> None:
    calm = pd.DataFrame({name: [0.0, np.nan] for name, _ in RULES})
    assert rule_score(calm).tolist() == [0.0, 0.0]
    assert rule_score(pd.DataFrame({name: [level] for name, level in RULES})).tolist() == [len(RULES)]


def test_splits_follow_the_days_after_the_warm_up() -> None:
    found = splits(np.arange(43))
    assert found[:3].tolist() == ["none"] * 3
    assert pd.unique(found[3:]).tolist() == ["train", "valid", "calibrate", "test"]
    assert (found == "test").sum() == 14


def log(n: int) -> pa.Table:
    rng = np.random.default_rng(1)
    trip = np.repeat(np.arange(n // 2), 2)
    return pa.table(
        {
            "event_id": [f"e{i}" for i in range(n)],
            "trip_id": [f"t{i}" if i % 9 else None for i in trip],
            "city": np.where(trip % 2 == 0, "tehran", "qom"),
            "driver_id": [f"d{i}" if i % 5 else None for i in rng.integers(0, 40, n // 2)[trip]],
            "device_id": [f"v{i}" for i in rng.integers(0, 90, n // 2)[trip]],
            "payment_instrument_id": pa.nulls(n, pa.string()),
            "event_timestamp": pa.array(trip * 10**9, pa.timestamp("us", "UTC")),
        }
    )


def test_shuffled_edges_keep_degrees_and_trips_whole_and_lose_who_met_whom() -> None:
    before = log(2000)
    after = shuffle_edges(before, np.random.default_rng(3)).to_pandas()
    plain = before.to_pandas()
    assert after["driver_id"].isna().equals(plain["driver_id"].isna())
    assert (after.dropna(subset=["trip_id", "driver_id"]).groupby("trip_id")["driver_id"].nunique() == 1).all()
    pd.testing.assert_series_equal(degrees(plain), degrees(after))
    driven = plain["driver_id"].notna()
    assert (after["driver_id"] == plain["driver_id"])[driven].mean() < 0.2


def degrees(frame: pd.DataFrame) -> pd.Series:
    """Trips of each driver by city and day; an event without a trip counts as one."""
    unit = frame.assign(unit=frame["trip_id"].fillna(frame["event_id"]), day=frame["event_timestamp"].dt.floor("D"))
    return unit.drop_duplicates("unit").groupby(["city", "day", "driver_id"]).size()


def test_a_typology_without_honest_look_alikes_is_refused(rng: np.random.Generator) -> None:
    from feature_repo.feature_names import CATEGORICAL_FEATURES, MODEL_FEATURES

    names = [n for n in MODEL_FEATURES if n not in CATEGORICAL_FEATURES]
    frame = pd.DataFrame(rng.normal(size=(400, len(names))), columns=names)
    frame["event_type"], frame["y"], frame["typology"] = "trip_requested", 0.0, None
    frame.loc[:19, ["y", "typology"]] = [1.0, "hidden"]
    frame.loc[20:39, ["y", "typology"]] = [1.0, "alone"]
    frame.loc[20:39, names] += 30.0
    met = {row.name.split(":")[0]: row.met for row in neighbour_rows([frame]) if row.met is not None}
    assert met == {"hidden": True, "alone": False}
