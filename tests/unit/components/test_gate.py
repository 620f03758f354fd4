"""Each bound of the gate, alone and together, on evaluations and on scores."""

from __future__ import annotations

import copy
import json
from typing import Any, get_args

import numpy as np
import pandas as pd
import pytest

from components.errors import GateFailed
from components.evaluate.logic import evaluate, to_json
from components.fuse_and_calibrate.thresholds import all_thresholds
from components.gate.logic import GateSettings, broken_bounds, check
from components.gate.settings import Bound
from inference_services.policy_settings import ThresholdSettings

LATENCY = {"lightgbm": 0.1, "gnn": 1.5}


def interval(value: float, by: float = 0.02) -> dict[str, float]:
    return {"value": value, "low": value - by, "high": value + by}


def ratio(value: float, by: float = 0.05, compared: int = 2) -> dict[str, Any]:
    groups = {f"g{i}": {"compared": i < compared} for i in range(3)}
    return {"ratio": interval(value, by), "groups": groups}


def good() -> dict[str, Any]:
    challenger = {
        "average_precision": 0.4,
        "calibration_error": 0.001,
        "calibration_slope": interval(1.0, 0.1),
        "top_1%_relative_error": interval(0.1, 0.1),
        "fairness": {"device_tier": ratio(0.9), "tenure": ratio(0.9), "city": ratio(0.5)},
        "minus_champion": {"average_precision": interval(0.0)},
    }
    canaries = {n: {"minus_champion": {"average_precision": interval(0.01)}} for n in ("lightgbm_canary", "gnn_canary")}
    pairs = {"challenger": challenger, "champion": {"average_precision": 0.4}, **canaries}
    return {"prevalence": 0.01, "pairs": pairs, "latency_ms": dict(LATENCY)}


def changed(path: str, value: object) -> dict[str, Any]:
    """A good evaluation with one value changed; the path's parts are divided by slashes."""
    evaluation = copy.deepcopy(good())
    *parents, last = path.split("/")
    place = evaluation
    for name in parents:
        place = place[name]
    place[last] = value
    return evaluation


def names(evaluation: dict[str, Any], settings: GateSettings | None = None) -> list[str]:
    return [line.split(":")[0] for line in broken_bounds(evaluation, settings or GateSettings())]


AP = "average_precision"


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (f"pairs/challenger/{AP}", 0.1),
        (f"pairs/challenger/minus_champion/{AP}", interval(-0.02)),
        ("pairs/challenger/calibration_slope", interval(0.7, 0.15)),
        ("pairs/challenger/calibration_slope", interval(1.4, 0.2)),
        ("pairs/challenger/top_1%_relative_error", interval(0.9, 0.8)),
        ("pairs/challenger/fairness/device_tier", ratio(0.5, 0.31)),
        ("pairs/challenger/fairness/device_tier", ratio(float("nan"), compared=1)),
        ("latency_ms/gnn", 24.0),
    ],
)
def test_what_the_data_cannot_decide_passes(path: str, value: object) -> None:
    check(changed(path, value), GateSettings())


@pytest.mark.parametrize(
    ("path", "value", "bound"),
    [
        (f"pairs/challenger/{AP}", 0.09, "least_lift: average precision 0.0900 is below 10 times the prevalence .0.10"),
        (
            f"pairs/challenger/minus_champion/{AP}",
            interval(-0.04),
            "champion_margin: the pair 'challenger' .* -0.0400 ",
        ),
        (f"pairs/challenger/minus_champion/{AP}", interval(0.0, 0.11), "champion_doubt: .* -0.1100 .* -0.1 is"),
        (f"pairs/gnn_canary/minus_champion/{AP}", interval(-0.04), "champion_margin: the pair 'gnn_canary'"),
        ("pairs/challenger/calibration_error", 0.03, "most_calibration_error: calibration error 0.0300 .* 0.02"),
        ("pairs/challenger/calibration_slope", interval(0.7), "least_calibration_slope: 0.700 .* lies below 0.8"),
        ("pairs/challenger/calibration_slope", interval(1.5), "most_calibration_slope: 1.500 .* lies above 1.25"),
        ("pairs/challenger/top_1%_relative_error", interval(0.3), "most_top_error: .* 0.300 .* lies above 0.2"),
        ("pairs/challenger/fairness/device_tier", ratio(0.6), "least_fpr_ratio: .* device_tier 0.600 .* below 0.8"),
        ("pairs/challenger/fairness/tenure", ratio(0.1), "least_fpr_ratio: .* tenure 0.100 .* below 0.8"),
        ("latency_ms/lightgbm", 11.0, "most_lightgbm_ms: one event takes 11.00 ms, at most 10 ms"),
        ("latency_ms/gnn", 26.0, "most_gnn_ms: one event takes 26.00 ms, at most 25 ms"),
    ],
)
def test_a_broken_bound_alone_is_named_with_both_numbers(path: str, value: object, bound: str) -> None:
    with pytest.raises(GateFailed, match=f"nothing is registered: {bound}"):
        check(changed(path, value), GateSettings())
    assert names(changed(path, value)) == [bound.split(":", maxsplit=1)[0]]


NOTHING = {"value": None, "low": None, "high": None}


@pytest.mark.parametrize(
    ("path", "value", "bounds"),
    [
        (f"pairs/challenger/{AP}", float("nan"), ["least_lift"]),
        (f"pairs/challenger/{AP}", None, ["least_lift"]),
        (f"pairs/challenger/minus_champion/{AP}", NOTHING, ["champion_margin", "champion_doubt"]),
        ("pairs/gnn_canary/minus_champion", {}, ["champion_margin", "champion_doubt"]),
        ("pairs/challenger/calibration_error", float("nan"), ["most_calibration_error"]),
        ("pairs/challenger/calibration_slope", NOTHING, ["least_calibration_slope", "most_calibration_slope"]),
        ("pairs/challenger/top_1%_relative_error", NOTHING, ["most_top_error"]),
        ("pairs/challenger/fairness/device_tier", ratio(float("nan")), ["least_fpr_ratio"]),
        ("pairs/challenger/fairness", {}, ["least_fpr_ratio"] * 2),
        ("latency_ms", {}, ["most_lightgbm_ms", "most_gnn_ms"]),
    ],
)
def test_what_was_not_measured_breaks_its_bound(path: str, value: object, bounds: list[str]) -> None:
    assert names(changed(path, value)) == bounds


def test_the_divisions_that_are_held_are_chosen() -> None:
    every = GateSettings(fairness_divisions=["city", "device_tier"])
    assert [line[:75] for line in broken_bounds(good(), every)] == [
        "least_fpr_ratio: false positive rate ratio across city 0.500 (interval 0.45"
    ]


def test_a_bound_that_is_not_held_does_not_close_the_gate() -> None:
    bad = changed("pairs/challenger/calibration_slope", interval(9.0))
    bad["pairs"]["challenger"]["top_1%_relative_error"] = NOTHING
    assert names(bad) == ["most_calibration_slope", "most_top_error"]
    assert names(bad, GateSettings(not_held=["most_top_error"])) == ["most_calibration_slope"]
    check(bad, GateSettings(not_held=["most_calibration_slope", "most_top_error"]))


def test_every_bound_has_a_setting_of_its_name() -> None:
    assert set(get_args(Bound)) == set(GateSettings.model_fields) - {"fairness_divisions", "not_held"}


def test_every_broken_bound_is_named() -> None:
    bad = changed("pairs/challenger/calibration_error", 1.0)
    bad["pairs"]["challenger"]["calibration_slope"] = interval(0.5)
    bad["latency_ms"]["gnn"] = 1000.0
    assert names(bad) == ["most_calibration_error", "least_calibration_slope", "most_gnn_ms"]


@pytest.fixture(scope="module")
def scores(training_set: pd.DataFrame) -> pd.DataFrame:
    """Calibrated scores: y was drawn from the probability that the synthetic training set was made with."""
    columns = ["event_id", "event_type", "event_timestamp", "rider_id", "y", "typology", "split", "city"]
    signal = 0.12 * training_set["rider_requests_7d"] + 0.06 * training_set["speed_kmh"]
    frame = training_set[[*columns, "rider_tenure_days"]].assign(split="test")
    p = 1 / (1 + np.exp(8.0 - signal.to_numpy()))
    radius = np.random.default_rng(5).gamma(2.0, 6.0, len(frame))
    return frame.assign(device_gps_accuracy_m=radius, challenger=p, champion=p, lightgbm_canary=p, gnn_canary=p)


def judged(scores: pd.DataFrame, policy: ThresholdSettings) -> dict[str, Any]:
    """Through JSON, as the step reads it."""
    found = evaluate(scores, all_thresholds(policy, policy.review_cost), policy, rounds=100)
    evaluation: dict[str, Any] = json.loads(to_json(found | {"latency_ms": LATENCY}))
    return evaluation


# The synthetic set's prevalence is far above a company's, so its lift cannot be tenfold.
EASY = GateSettings(least_lift=2.0)


def test_a_challenger_that_equals_the_champion_passes(scores: pd.DataFrame, policy: ThresholdSettings) -> None:
    check(judged(scores, policy), EASY)


def test_a_clearly_worse_challenger_fails(scores: pd.DataFrame, policy: ThresholdSettings) -> None:
    rng = np.random.default_rng(0)
    odds = np.log(scores["challenger"] / (1 - scores["challenger"])) + rng.normal(0, 2.5, len(scores))
    worse = scores.assign(challenger=1 / (1 + np.exp(-odds)))
    assert {"champion_margin", "champion_doubt", "least_calibration_slope"} <= set(names(judged(worse, policy), EASY))


def test_shuffled_scores_fail(scores: pd.DataFrame, policy: ThresholdSettings) -> None:
    shuffled = scores.assign(challenger=np.random.default_rng(0).permutation(scores["challenger"]))
    broken = names(judged(shuffled, policy), EASY)
    assert {"least_lift", "champion_margin", "least_calibration_slope"} <= set(broken)


def test_a_challenger_that_doubts_honest_people_with_coarse_phones_fails(
    scores: pd.DataFrame, policy: ThresholdSettings
) -> None:
    coarse = (scores["device_gps_accuracy_m"] > 14).to_numpy()
    odds = np.log(scores["challenger"] / (1 - scores["challenger"])) + 1.0 * coarse
    assert "least_fpr_ratio" in names(judged(scores.assign(challenger=1 / (1 + np.exp(-odds))), policy), EASY)


def test_scores_that_are_nan_fail(scores: pd.DataFrame, policy: ThresholdSettings) -> None:
    broken = names(judged(scores.assign(challenger=np.nan), policy), EASY)
    assert {"least_lift", "champion_margin", "most_calibration_error", "most_top_error"} <= set(broken)
