from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import average_precision_score

from components.errors import GateFailed, TooFewLabels
from components.evaluate import metrics
from components.evaluate.logic import evaluate, flat_metrics
from components.evaluate.plot import write_plot
from components.fuse_and_calibrate.thresholds import all_thresholds
from components.gate.logic import GateSettings, broken_bounds, check
from inference_services.policy_settings import ThresholdSettings
from inference_services.transformer.fusion import Thresholds

RNG = np.random.default_rng(3)
Y = (RNG.random(4000) < 0.05).astype(float)
SCORE = np.round(Y + RNG.normal(0, 1, 4000), 2)  # rounded: ties must be treated right


def test_recall_is_taken_where_no_more_honest_events_alarm_than_allowed() -> None:
    y = np.array([1.0, 1, 1, 1, *[0] * 100])
    score = np.array([0.99, 0.9, 0.5, 0.1, 0.95, 0.6, *np.linspace(0, 0.4, 98)])
    assert metrics.recall_at_fpr(y, score, 0.0) == 0.25
    assert metrics.recall_at_fpr(y, score, 0.01) == 0.5
    assert metrics.recall_at_fpr(y, score, 0.02) == 0.75
    tied = np.full(104, 0.5)
    assert metrics.recall_at_fpr(y, tied, 0.05) == 0.0


def test_the_bootstrap_resamples_riders_with_all_their_events() -> None:
    low, high = metrics.bootstrap_interval(Y, SCORE, np.arange(4000), rounds=100, seed=1)
    assert low < average_precision_score(Y, SCORE) < high
    # Each event five times, all of one rider: five times the events, no more knowledge.
    again = np.repeat(np.arange(4000), 5)
    by_rider = metrics.bootstrap_interval(Y[again], SCORE[again], again, rounds=100, seed=1)
    assert by_rider == pytest.approx((low, high))
    by_event = metrics.bootstrap_interval(Y[again], SCORE[again], np.arange(20_000), rounds=100, seed=1)
    assert by_event[1] - by_event[0] < 0.7 * (high - low)


def test_one_round_of_the_bootstrap_is_scikit_learn_s_weighted_average_precision() -> None:
    rider = RNG.integers(0, 500, 4000)
    drawn = np.bincount(np.random.default_rng(9).integers(0, 500, 500), minlength=500)
    expected = average_precision_score(Y, SCORE, sample_weight=drawn[rider].astype(float))
    found = metrics.bootstrap_interval(Y, SCORE, rider, rounds=1, seed=9)
    assert found == pytest.approx((expected, expected))


def test_the_top_of_each_day_counts_alone() -> None:
    y = np.array([1.0, 0, 0, 1, 1, 0])
    score = np.array([0.9, 0.8, 0.1, 0.3, 0.2, 0.1])
    assert metrics.precision_in_top(y, score, np.array([0, 0, 0, 1, 1, 1]), 2) == 0.75


def test_calibration_error_sees_a_shifted_probability() -> None:
    p = RNG.beta(0.2, 5, 50_000)
    y = (RNG.random(50_000) < p).astype(float)
    assert metrics.calibration_error(y, p) < 0.004
    assert metrics.calibration_error(y, np.minimum(p + 0.1, 1)) == pytest.approx(0.1, abs=0.01)


@pytest.fixture
def scores(training_set: pd.DataFrame) -> pd.DataFrame:
    context = ["event_id", "event_type", "event_timestamp", "rider_id", "y", "typology", "split"]
    y = training_set["y"].to_numpy()
    return training_set[context].assign(
        challenger=np.where(y == 1, 0.999, 0.0001), lightgbm_alone=y.mean() + RNG.uniform(0, 1e-3, len(y))
    )


def test_an_oracle_saves_everything_and_a_blind_score_nothing(scores: pd.DataFrame, policy: ThresholdSettings) -> None:
    thresholds = all_thresholds(policy, policy.review_cost)
    found = evaluate(scores, thresholds, policy, rounds=20)
    oracle, blind = found["pairs"]["challenger"], found["pairs"]["lightgbm_alone"]
    assert (oracle["average_precision"], oracle["cost_saved_share"], oracle["cost_per_day"]) == (1.0, 1.0, 0.0)
    assert set(oracle["recall_at_1%_fpr_by_typology"]) == {"collusion", "gps_spoofing"}
    assert set(oracle["recall_at_1%_fpr_by_typology"].values()) == {1.0}
    assert blind["average_precision"] < 3 * found["prevalence"]
    never = {name: Thresholds(1.0, 1.0) for name in thresholds}
    idle = evaluate(scores, never, policy, rounds=2)["pairs"]["lightgbm_alone"]
    assert (idle["cost_saved_per_day"], idle["decisions_per_day"]["block"]) == (0.0, 0.0)


def test_only_test_days_are_judged(scores: pd.DataFrame, policy: ThresholdSettings) -> None:
    thresholds = all_thresholds(policy, policy.review_cost)
    other = scores.assign(challenger=scores["challenger"].where(scores["split"] == "test", 0.5))
    assert evaluate(scores, thresholds, policy, rounds=5) == evaluate(other, thresholds, policy, rounds=5)


def test_a_test_split_without_fraud_is_refused(scores: pd.DataFrame, policy: ThresholdSettings) -> None:
    with pytest.raises(TooFewLabels, match="'test'"):
        evaluate(scores.assign(y=0.0), all_thresholds(policy, 1.0), policy)


def test_metrics_flatten_to_names_that_mlflow_takes(scores: pd.DataFrame, policy: ThresholdSettings) -> None:
    found = evaluate(scores, all_thresholds(policy, policy.review_cost), policy, rounds=2)
    flat = flat_metrics(json.loads(json.dumps(found)))
    assert flat["pairs.challenger.recall_at_fpr.0.1pct"] == 1.0
    assert not [name for name in flat if "%" in name]
    interval = [flat[f"pairs.lightgbm_alone.average_precision_95.{side}"] for side in ("low", "high")]
    assert interval[0] <= interval[1]


def test_every_number_of_an_evaluation_is_logged(scores: pd.DataFrame, policy: ThresholdSettings) -> None:
    found = json.dumps(evaluate(scores, all_thresholds(policy, policy.review_cost), policy, rounds=2))
    numbers: list[str] = []
    json.loads(found, parse_float=numbers.append, parse_int=numbers.append)
    assert len(flat_metrics(json.loads(found))) == len(numbers)


def test_the_plot_is_a_png(scores: pd.DataFrame, tmp_path: Path) -> None:
    write_plot(scores, ["challenger", "lightgbm_alone"], tmp_path / "plot")
    assert (tmp_path / "plot").read_bytes().startswith(b"\x89PNG")


def evaluation(precision: float = 0.4, error: float = 0.001, **others: float) -> dict[str, object]:
    pairs = {"challenger": {"average_precision": precision, "calibration_error": error}}
    pairs |= {name: {"average_precision": value} for name, value in others.items()}
    return {"prevalence": 0.01, "pairs": pairs}


CANARY = {"lightgbm_canary": 0.4, "gnn_canary": 0.4}


@pytest.mark.parametrize("good", [evaluation(), evaluation(champion=0.42, **CANARY), evaluation(precision=0.1)])
def test_the_gate_lets_a_good_model_pass(good: dict[str, object]) -> None:
    check(good, GateSettings())


@pytest.mark.parametrize(
    ("bad", "bound"),
    [
        (evaluation(precision=0.09), "least_lift: average precision 0.0900 is below 10 times the prevalence"),
        (evaluation(precision=float("nan")), "least_lift"),
        (evaluation(error=0.03), "most_calibration_error: calibration error 0.0300"),
        (evaluation(error=float("nan")), "most_calibration_error"),
        (evaluation(champion=0.44, **CANARY), "champion_margin: average precision 0.4000 of the pair 'challenger'"),
        (evaluation(champion=0.4, lightgbm_canary=0.3, gnn_canary=0.4), "pair 'lightgbm_canary'"),
        (evaluation(champion=0.4, lightgbm_canary=0.4, gnn_canary=float("nan")), "pair 'gnn_canary'"),
    ],
)
def test_the_gate_names_the_broken_bound(bad: dict[str, object], bound: str) -> None:
    with pytest.raises(GateFailed, match=bound):
        check(bad, GateSettings())


def test_the_gate_names_every_broken_bound() -> None:
    assert len(broken_bounds(evaluation(precision=0.05, error=1.0, champion=0.5, **CANARY), GateSettings())) == 5
