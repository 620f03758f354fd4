"""Each measure against a library, a definition worked out by hand, or a case whose answer is known."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from fairlearn.metrics import MetricFrame, false_positive_rate
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, brier_score_loss

from components.evaluate import bootstrap, calibration, cost, fairness, metrics
from components.event_context import MOST_IN_A_CLUSTER, clusters, event_context
from feature_repo.datasets import Dataset
from inference_services.policy_settings import ThresholdSettings

RNG = np.random.default_rng(3)
Y = (RNG.random(4000) < 0.05).astype(float)
SCORE = np.round(Y + RNG.normal(0, 1, 4000), 2)  # rounded: ties must be treated right
P = RNG.beta(0.3, 6, 4000)
OF_P = (RNG.random(4000) < P).astype(float)
RIDER = RNG.integers(0, 500, 4000)


def test_recall_is_taken_where_no_more_honest_events_alarm_than_allowed() -> None:
    y = np.array([1.0, 1, 1, 1, *[0] * 100])
    score = np.array([0.99, 0.9, 0.5, 0.1, 0.95, 0.6, *np.linspace(0, 0.4, 98)])
    assert metrics.recall_at_fpr(y, score, 0.0) == 0.25
    assert metrics.recall_at_fpr(y, score, 0.01) == 0.5
    assert metrics.recall_at_fpr(y, score, 0.02) == 0.75
    tied = np.full(104, 0.5)
    assert metrics.recall_at_fpr(y, tied, 0.05) == 0.0


def test_the_top_of_each_day_counts_alone() -> None:
    y = np.array([1.0, 0, 0, 1, 1, 0, 1])
    score = np.array([0.9, 0.8, 0.1, 0.3, 0.2, 0.1, 0.05])
    day = np.array([0, 0, 0, 1, 1, 1, 2])
    assert metrics.precision_in_top(y, score, day, 2) == pytest.approx((0.5 + 1.0 + 1.0) / 3)


def test_a_typology_is_ranked_against_honest_events_only() -> None:
    y = np.array([1.0, 1, 0, 1, 0])
    typology = np.array(["ring", "card", None, "ring", None], object)
    score = np.array([0.5, 0.9, 0.7, 0.3, 0.1])
    assert metrics.typology_average_precision(y, score, typology, ["card"]) == 1.0
    assert metrics.typology_average_precision(y, score, typology, ["ring"]) == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert np.isnan(metrics.typology_average_precision(y, score, typology, ["unheard of"]))
    assert metrics.recall_by_typology(y, score, typology, 0.5) == {"card": 1.0, "ring": 1.0}
    assert metrics.recall_by_typology(y, score, typology, 0.0) == {"card": 1.0, "ring": 0.0}


def test_the_bootstrap_resamples_clusters_with_all_their_events() -> None:
    one_each = bootstrap.average_precision_interval(Y, SCORE, np.arange(4000), rounds=100, seed=1)
    assert one_each.low < average_precision_score(Y, SCORE) < one_each.high
    assert one_each.value == pytest.approx(average_precision_score(Y, SCORE))
    # Each event five times, all of one cluster: five times the events, no more knowledge.
    again = np.repeat(np.arange(4000), 5)
    by_cluster = bootstrap.average_precision_interval(Y[again], SCORE[again], again, rounds=100, seed=1)
    assert (by_cluster.low, by_cluster.high) == pytest.approx((one_each.low, one_each.high))
    by_event = bootstrap.average_precision_interval(Y[again], SCORE[again], np.arange(20_000), rounds=100, seed=1)
    assert by_event.high - by_event.low < 0.7 * (one_each.high - one_each.low)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=20, deadline=None)
def test_weighted_statistics_are_those_of_the_repeated_events(seed: int) -> None:
    weight = np.random.default_rng(seed).integers(0, 3, 4000)
    again = np.repeat(np.arange(4000), weight)
    found = bootstrap.average_precision_of(Y, SCORE)(weight.astype(float))
    assert found == pytest.approx(average_precision_score(Y[again], SCORE[again]))
    for fpr in (0.001, 0.01, 0.05):
        expected = metrics.recall_at_fpr(Y[again], SCORE[again], fpr)
        assert bootstrap.recall_at_fpr_of(Y, SCORE, fpr)(weight.astype(float)) == pytest.approx(expected)


def test_a_paired_interval_is_narrower_than_the_two_alone() -> None:
    close = SCORE + RNG.normal(0, 0.05, 4000)
    first, second = (bootstrap.average_precision_of(Y, s) for s in (SCORE, close))
    paired = bootstrap.paired_bootstrap(RIDER, first, second, rounds=200, seed=1)
    alone = bootstrap.interval(0.0, paired.rounds[:, 0])
    assert paired.difference().high - paired.difference().low < 0.3 * (alone.high - alone.low)
    assert paired.difference().value == pytest.approx(paired.values[0] - paired.values[1])
    assert paired.ratio().low < 1.0 < paired.ratio().high
    same = bootstrap.paired_bootstrap(RIDER, first, first, rounds=20, seed=1).difference()
    assert (same.value, same.low, same.high) == (0.0, 0.0, 0.0)


def test_an_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for seed in range(100):
        p = rng.beta(0.3, 6, 3000)
        y = (rng.random(3000) < p).astype(float)
        slopes = bootstrap.cluster_bootstrap(
            np.arange(3000), calibration.calibration_line_of(y, p), rounds=100, seed=seed
        )
        found = bootstrap.interval(1.0, slopes[:, 0])
        covered += found.low <= 1.0 <= found.high
    assert 86 <= covered <= 100


def test_calibration_error_sees_a_shifted_probability() -> None:
    p = RNG.beta(0.2, 5, 50_000)
    y = (RNG.random(50_000) < p).astype(float)
    assert calibration.calibration_error(y, p) < 0.004
    assert calibration.calibration_error(y, np.minimum(p + 0.1, 1)) == pytest.approx(0.1, abs=0.01)


def test_the_calibration_line_is_logistic_regression_on_the_logit() -> None:
    logit = (np.log(P) - np.log1p(-P))[:, None]
    reference = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(logit, OF_P)
    line = calibration.calibration_line(OF_P, P)
    assert (line.slope, line.intercept) == pytest.approx((reference.coef_[0, 0], reference.intercept_[0]), abs=1e-5)
    halved = 1 / (1 + np.exp(-(0.5 * logit[:, 0] - 1)))
    assert calibration.calibration_line(OF_P, halved).slope == pytest.approx(2 * line.slope, abs=1e-6)
    weight = RNG.integers(0, 3, 4000).astype(float)
    exact = calibration.calibration_line(OF_P, P, weight)
    one_step = calibration.calibration_line_of(OF_P, P)(weight)
    assert one_step == pytest.approx([exact.slope, exact.intercept], abs=0.02)


@pytest.mark.parametrize("p", [np.where(OF_P == 1, 0.9, 0.1), np.full(4000, np.nan)])
def test_a_line_that_does_not_exist_is_nan(p: np.ndarray) -> None:
    assert np.isnan(calibration.calibration_line(OF_P, p).slope)
    assert np.isnan(calibration.calibration_line_of(OF_P, p)(np.ones(4000))).all()
    assert np.isnan(calibration.calibration_line(np.zeros(4000), P).slope)


def test_brier_skill_is_against_the_prevalence() -> None:
    expected = 1 - brier_score_loss(OF_P, P) / brier_score_loss(OF_P, np.full(4000, OF_P.mean()))
    assert calibration.brier_skill(OF_P, P) == pytest.approx(expected)
    assert calibration.brier_skill(OF_P, np.full(4000, OF_P.mean())) == pytest.approx(0.0)
    assert calibration.brier_skill(OF_P, 1 - OF_P) < -1
    assert np.isnan(calibration.brier_skill(np.zeros(10), np.zeros(10)))


def test_the_top_error_looks_at_the_highest_probabilities_alone() -> None:
    p = np.concatenate([np.full(10, 0.5), np.full(990, 0.9e-3)])
    y = np.concatenate([np.ones(4), np.zeros(996)])
    assert calibration.top_error(y, p, 0.01) == pytest.approx(0.25)
    assert np.isnan(calibration.top_error(1 - y, np.where(p > 0.1, 0.5, 0.0), 0.002))


@pytest.fixture
def stakes(policy: ThresholdSettings) -> cost.Stakes:
    small = policy.model_copy(update={"review_capacity_per_day": 2, "review_cost": 10_000.0})
    types = np.array(["payment_authorized", "refund_claimed", "trip_requested", "trip_requested"] * 2, object)
    return cost.Stakes.of(small, types, np.array([1.0, 1, 1, 0, 0, 0, 0, 1]), np.repeat([0, 1], 4))


def test_what_exceeds_the_reviewers_day_is_allowed_lowest_priority_first(stakes: cost.Stakes) -> None:
    decision = np.array(["review"] * 4 + ["allow", "block", "allow", "review"], object)
    priority = np.array([0.5, 0.9, 0.7, 0.1, 0.0, 0.0, 0.0, 0.2])
    kept = cost.within_capacity(stakes, decision, priority)
    assert kept.tolist() == ["allow", "review", "review", "allow", "allow", "block", "allow", "review"]
    spent = cost.spend(stakes, decision, priority)
    # Two days: the missed payment, three reviews, one refund blocked wrongly.
    assert spent.cost_per_day == (600_000 + 3 * 10_000 + 50_000) / 2
    assert spent.reviews_over_capacity_per_day == 1.0
    assert spent.good_blocked_share == 0.25


def test_the_oracle_blocks_fraud_alone_and_the_review_oracle_looks_at_what_costs_most(stakes: cost.Stakes) -> None:
    perfect = np.where(stakes.y == 1, "block", "allow").astype(object)
    best = cost.spend(stakes, perfect, stakes.y)
    assert (best.cost_per_day, best.saved_share, best.good_blocked_share) == (0.0, 1.0, 0.0)
    assert best.saved_per_day == cost.allow_all_cost_per_day(stakes) == (600_000 + 250_000 + 150_000 + 150_000) / 2
    # Day 1 has three frauds and two reviews: the trip is let go. Day 2 has one.
    assert cost.review_oracle_saved_per_day(stakes) == (590_000 + 240_000 + 140_000) / 2
    nothing = cost.spend(stakes, np.full(8, "allow", object), stakes.y)
    assert (nothing.saved_share, nothing.saved_share_of_review_oracle) == (0.0, 0.0)


def test_the_cost_curve_starts_without_reviewers_and_falls_to_what_an_unbounded_queue_saves(
    policy: ThresholdSettings,
) -> None:
    types = RNG.choice(np.array(list(policy.missed_fraud_cost), object), 4000)
    stakes = cost.Stakes.of(policy, types, OF_P, np.arange(4000) // 500)
    curve = cost.cost_curve(stakes, P, [0, 20, 100, 500, 10_000])
    allow, block = P * stakes.missed, (1 - P) * stakes.wrong
    blind = np.where(block < allow, "block", "allow").astype(object)
    assert curve[0] == pytest.approx(cost.spend(stakes, blind, P).cost_per_day)
    assert curve[3] == curve[4]
    assert (np.diff(curve)[:2] < 0).all()
    review = np.minimum(allow, block) > policy.review_cost
    free = cost.event_cost(stakes, np.where(review, "review", blind).astype(object)).sum() / 8
    assert curve[4] == pytest.approx(free)


def group_case(rates: dict[str, tuple[int, float]]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Honest events of groups of a given size, flagged at a given rate, and as much fraud again, all of it flagged."""
    group = np.concatenate([np.full(n, name, object) for name, (n, _) in rates.items()])
    flagged = np.concatenate([np.arange(n) < round(rate * n) for n, rate in rates.values()])
    y = np.concatenate([np.zeros(len(group)), np.ones(len(group))])
    return y, np.concatenate([flagged, np.ones(len(group), bool)]), np.tile(group, 2), np.arange(2 * len(group))


def test_false_positive_rates_are_fairlearn_s_and_small_groups_are_not_compared() -> None:
    y, flagged, group, cluster = group_case({"a": (2000, 0.05), "b": (1000, 0.1), "c": (150, 0.5), "unknown": (900, 0)})
    found = fairness.false_positive_rates(y, flagged, group, cluster, rounds=100, seed=1)
    by_name = {g.group: g for g in found.groups}
    frame = MetricFrame(metrics=false_positive_rate, y_true=y, y_pred=flagged.astype(float), sensitive_features=group)
    assert {name: g.rate.value for name, g in by_name.items()} == pytest.approx(frame.by_group.to_dict())
    assert {name for name, g in by_name.items() if not g.compared} == {"c", "unknown"}
    assert by_name["b"].honest == 1000
    assert by_name["b"].rate.low < 0.1 < by_name["b"].rate.high
    assert found.ratio.value == 0.5
    assert 0.3 < found.ratio.low < 0.5 < found.ratio.high < 0.8


def test_equal_groups_are_not_called_unequal_by_chance() -> None:
    rng = np.random.default_rng(2)
    beyond = plain = 0
    for seed in range(40):
        group = np.repeat(np.array(["a", "b", "c", "d", "e"], object), 400)
        flagged = rng.random(2000) < 0.05
        found = fairness.false_positive_rates(np.zeros(2000), flagged, group, np.arange(2000), rounds=60, seed=seed)
        beyond += found.ratio.high < 1.0
        plain += found.ratio.value < 0.8
    assert beyond <= 4
    assert plain > 25  # what a bound on the value alone would refuse


@pytest.mark.parametrize("rates", [{"a": (500, 0.1)}, {"a": (500, 0.0), "b": (500, 0.0)}, {"a": (50, 0.1)}])
def test_a_ratio_that_cannot_be_taken_is_nan(rates: dict[str, tuple[int, float]]) -> None:
    found = fairness.false_positive_rates(*group_case(rates), rounds=20, seed=1)
    assert np.isnan(found.ratio.value)


def test_equal_rates_by_group_change_recall_where_one_threshold_is_uneven() -> None:
    rng = np.random.default_rng(1)
    group = np.repeat(np.array(["old", "new"], object), 1000)
    y = np.tile(np.repeat([1.0, 0.0], [100, 900]), 2)
    score = y + rng.normal(0, 0.7, 2000) + 5 * (group == "new")
    assert metrics.recall_at_fpr(y, score, 0.05) < 0.6
    assert fairness.recall_at_equal_rates(y, score, group, 0.05) == pytest.approx(
        np.mean([metrics.recall_at_fpr(y[s], score[s], 0.05) for s in (slice(0, 1000), slice(1000, 2000))])
    )


def test_phones_fall_into_their_tiers() -> None:
    tiers = fairness.device_tier(np.array([5.0, 6, 9, 10, 25, 30, np.nan]))
    assert tiers.tolist() == ["precise"] * 2 + ["middling"] * 2 + ["coarse"] * 2 + ["unknown"]
    assert set(fairness.device_tier(np.full(3, np.nan))) == {"unknown"}


def test_riders_who_share_a_phone_or_a_card_are_one_cluster() -> None:
    rider = pd.Series(["r1", "r2", "r2", "r3", "r4", *(f"x{i}" for i in range(95))])
    phone = pd.Series(["p1", "p1", "p2", "p3", "p4", *(f"q{i}" for i in range(95))])
    card = pd.Series(["c1", None, "c2", "c2", None, *[None] * 95])
    found = clusters(rider, [phone, card])
    assert len(set(found[:4])) == 1
    assert len(set(found)) == 97


def test_a_component_that_spans_the_city_falls_apart_into_riders() -> None:
    rider = pd.Series([f"r{i}" for i in range(100)])
    shared = pd.Series([f"p{max(i - 10, 0)}" for i in range(100)])
    assert MOST_IN_A_CLUSTER < 11 / 100
    assert len(set(clusters(rider, [shared]))) == 100


def test_every_event_of_a_dataset_has_a_cluster_and_its_phone_s_radius(small_dataset: Dataset) -> None:
    events = small_dataset.event_table()
    context = event_context(events)
    assert context.index.tolist() == events.column("event_id").to_pylist()
    frame = events.select(["rider_id", "device_id", "event_type", "gps_accuracy_m"]).to_pandas()
    assert frame.assign(c=context["cluster"].to_numpy()).groupby("rider_id")["c"].nunique().max() == 1
    asked = frame[frame["event_type"] == "trip_requested"].groupby("device_id")["gps_accuracy_m"].median()
    expected = frame["device_id"].map(asked).to_numpy()
    assert np.array_equal(context["device_gps_accuracy_m"].to_numpy(), expected, equal_nan=True)
    # What the driver's phone reported at the end of the trip is another matter.
    of_all = frame["device_id"].map(frame.groupby("device_id")["gps_accuracy_m"].median()).to_numpy()
    assert not np.array_equal(expected, of_all, equal_nan=True)
