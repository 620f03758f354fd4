from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from components.errors import TooFewLabels
from components.evaluate.labelled import Labelled
from components.fuse_and_calibrate.logic import find_row, fit_pair, fusion_rows
from components.fuse_and_calibrate.step import Candidate, fuse, score_gnn, score_lightgbm, write_bundle
from components.fuse_and_calibrate.thresholds import (
    all_thresholds,
    cheapest_thresholds,
    policy_cost,
    thresholds_at,
)
from components.train_gnn.settings import GnnSettings
from components.train_gnn.step import train_and_write
from components.train_lightgbm.bundle import write_bundle as write_lightgbm
from components.train_lightgbm.logic import score, train
from components.train_lightgbm.settings import LightGbmSettings
from feature_repo.datasets import Dataset
from feature_repo.graph_features import CONTEXT_FEATURES
from inference_services.alarm_groups import alarm_groups, alarm_offset, alarm_score
from inference_services.calibration import sigmoid
from inference_services.policy_settings import ThresholdSettings
from inference_services.transformer.fusion import Fusion, Score, Thresholds, decide

RNG = np.random.default_rng(1)
N = 20_000
SIGNALS = RNG.normal(0, 1, (2, N))
Y = (RNG.random(N) < sigmoid(SIGNALS[0] + 2 * SIGNALS[1] - 4)).astype(float)


def test_the_pair_finds_the_weights_that_made_the_labels() -> None:
    weights, intercept = fit_pair(SIGNALS[0], SIGNALS[1], Y)
    assert (*weights, intercept) == pytest.approx((1, 2, -4), abs=0.2)


def test_a_model_that_points_the_wrong_way_gets_no_weight() -> None:
    weights, _ = fit_pair(-SIGNALS[0], SIGNALS[1], Y)
    assert weights[0] == 0.0
    assert weights[1] > 1


def test_fitting_needs_both_classes() -> None:
    with pytest.raises(TooFewLabels):
        fit_pair(SIGNALS[0], SIGNALS[1], np.zeros(N))


def test_every_pair_and_every_version_alone_has_a_row() -> None:
    noise = RNG.normal(0, 1, (2, N))
    no_graph = {"g1": 0.5 * SIGNALS[1] + noise[1]}
    rows = fusion_rows({"l1": SIGNALS[0], "l0": noise[0]}, {"g1": SIGNALS[1], "g0": noise[1]}, no_graph, Y)
    pairs = {(r.lightgbm, r.gnn, r.mask) for r in rows}
    assert pairs == {
        *((trees, graph, "full") for trees in ("l1", "l0") for graph in ("g1", "g0")),
        *((trees, "g1", "no_graph") for trees in ("l1", "l0")),
        *((trees, None, mask) for trees in ("l1", "l0") for mask in ("full", "no_graph", "no_store")),
        *((None, g, "full") for g in ("g1", "g0")),
        (None, "g1", "no_graph"),
    }  # fmt: skip
    assert find_row(rows, "l1", "g1", "no_graph").weights[1] < find_row(rows, "l1", "g1").weights[1]
    alone = find_row(rows, "l0", None, "no_store")
    np.testing.assert_array_equal(alone.log_odds(noise[0], SIGNALS[1]), noise[0])


@pytest.mark.parametrize("price", [5_000.0, 15_000.0, 60_000.0, 500_000.0])
def test_thresholds_are_the_cheapest_decision_at_every_probability(price: float) -> None:
    missed, wrong = 200_000.0, 80_000.0
    found = thresholds_at(price, missed, wrong)
    for p in np.linspace(0.001, 0.999, 997):
        costs = {"allow": p * missed, "review": price, "block": (1 - p) * wrong}
        decision = "block" if p >= found.block else "review" if p >= found.review else "allow"
        assert costs[decision] == pytest.approx(min(costs.values()))


def test_reviews_fit_the_reviewers_and_are_cut_where_they_save_least(policy: ThresholdSettings) -> None:
    types = np.array(list(policy.missed_fraud_cost), object)[RNG.integers(0, 6, N)]
    probability = RNG.beta(0.3, 3, N)
    few = policy.model_copy(update={"review_capacity_per_day": 100})
    found = cheapest_thresholds(few, types, probability, days=10)
    reviews = (decide(found, types, probability) == "review").sum() / 10
    assert 90 < reviews <= 100
    free = all_thresholds(policy, policy.review_cost)
    assert (decide(free, types, probability) == "review").sum() / 10 > 100
    for name, limits in found.items():
        assert limits.review > free[name].review
        assert limits.block < free[name].block


def test_enough_reviewers_leave_the_price_at_its_cost(policy: ThresholdSettings) -> None:
    types = np.full(100, "trip_requested", object)
    assert cheapest_thresholds(policy, types, np.full(100, 0.001), days=5) == all_thresholds(policy, policy.review_cost)


def test_falling_thresholds_are_refused() -> None:
    with pytest.raises(ValueError, match="must rise"):
        Thresholds(0.5, 0.4)


def test_costs_follow_the_policy(policy: ThresholdSettings) -> None:
    types = np.full(6, "refund_claimed", object)
    decision = np.array(["allow", "review", "block"] * 2)
    cost = policy_cost(policy, decision, types, np.array([1.0, 1, 1, 0, 0, 0]))
    assert cost.tolist() == [250_000, 15_000, 0, 0, 15_000, 50_000]


@pytest.fixture(scope="module")
def candidates(training_set: pd.DataFrame) -> dict[str, Candidate]:
    """Two versions of each model: calibrated guesses of differing worth."""
    y = training_set["y"].to_numpy()
    base = np.log(y.mean() / (1 - y.mean()))
    rng = np.random.default_rng(2)
    found = {}
    for sha12, worth in (("1" * 12, 2.0), ("0" * 12, 1.0), ("a" * 12, 1.5), ("b" * 12, 0.5)):
        log_odds = base + worth * (y - 0.5) + rng.normal(0, 1, len(y))
        found[sha12] = Candidate(sha12, pd.Series(log_odds, training_set["event_id"].to_numpy()))
    return found


def test_the_transformer_combines_as_the_step_did(
    training_set: pd.DataFrame, candidates: dict[str, Candidate], policy: ThresholdSettings, tmp_path: Path
) -> None:
    new_l, old_l, new_g, old_g = candidates.values()
    fused = fuse(training_set, [new_l, old_l], [new_g, old_g], policy)
    bundle = write_bundle(tmp_path, fused, lightgbm=new_l.sha12, gnn=new_g.sha12, policy=policy, facts={})
    served = Fusion.load(bundle.folder)
    assert served.gnn_versions == tuple(sorted((new_g.sha12, old_g.sha12)))
    row = fused.scores.iloc[-1]
    pairs = {"challenger": (new_l, new_g), "champion": (old_l, old_g), "lightgbm_canary": (new_l, old_g)}
    for name, both in pairs.items():
        left, right = (Score(c.log_odds[[row["event_id"]]].to_numpy(), c.sha12) for c in both)
        answer = served.combine(left, right, "full", 1)
        assert answer.probability[0] == pytest.approx(row[name], rel=1e-12)
    content = json.loads((tmp_path / "fusion.json").read_text())
    assert content["policy_sha256"] == policy.sha256()
    assert set(content["thresholds"]) == set(policy.missed_fraud_cost)


def test_only_calibration_days_reach_the_fusion(
    training_set: pd.DataFrame, candidates: dict[str, Candidate], policy: ThresholdSettings
) -> None:
    new_l, _, new_g, _ = candidates.values()
    few = policy.model_copy(update={"review_capacity_per_day": 1})
    calibrate = training_set["split"] == "calibrate"
    other = training_set.assign(y=training_set["y"].where(calibrate, 0.0))
    suspicious = Candidate(new_l.sha12, new_l.log_odds.where(calibrate.to_numpy(), 0.0))
    first, second = fuse(training_set, [new_l], [new_g], few), fuse(other, [suspicious], [new_g], few)
    assert first.rows == second.rows
    assert first.thresholds == second.thresholds


@pytest.fixture
def uneven(training_set: pd.DataFrame) -> pd.DataFrame:
    """Riders of all ages."""
    days = np.random.default_rng(3).choice([3.0, 20.0, 60.0, 400.0, np.nan], len(training_set))
    return training_set.assign(rider_tenure_days=days)


def test_without_divisions_decisions_are_those_of_the_probability(
    uneven: pd.DataFrame, candidates: dict[str, Candidate], policy: ThresholdSettings
) -> None:
    new_l, _, new_g, _ = candidates.values()
    off = policy.model_copy(update={"equal_alarm_rates": (), "review_capacity_per_day": 1})
    fused = fuse(uneven, [new_l], [new_g], off)
    chosen = fused.scores[fused.scores["split"] == "calibrate"]
    types, probability = chosen["event_type"].to_numpy(object), chosen["challenger"].to_numpy(float)
    assert fused.alarm_offsets == {}
    assert fused.thresholds == cheapest_thresholds(off, types, probability, chosen["event_timestamp"].dt.date.nunique())


def test_reviews_fit_the_reviewers_by_the_scores_that_decide(
    uneven: pd.DataFrame, candidates: dict[str, Candidate], policy: ThresholdSettings
) -> None:
    new_l, _, new_g, _ = candidates.values()
    few = policy.model_copy(update={"equal_alarm_rates": ("tenure",), "review_capacity_per_day": 1})
    shifted = new_l.log_odds + 2 * (uneven["rider_tenure_days"] < 7).to_numpy()
    fused = fuse(uneven, [Candidate(new_l.sha12, shifted)], [new_g], few)
    chosen = fused.scores[fused.scores["split"] == "calibrate"]
    days, types = chosen["event_timestamp"].dt.date.nunique(), chosen["event_type"].to_numpy(object)
    p = chosen["challenger"].to_numpy(float)
    groups = alarm_groups(chosen["city"].to_numpy(object), chosen["rider_tenure_days"].to_numpy(float))
    alarm = alarm_score(p, alarm_offset(fused.alarm_offsets, groups, len(p)))
    assert fused.thresholds == cheapest_thresholds(few, types, alarm, days)
    assert fused.thresholds != cheapest_thresholds(few, types, p, days)


def test_the_transformer_decides_as_the_step_and_the_evaluation_did(
    uneven: pd.DataFrame, candidates: dict[str, Candidate], policy: ThresholdSettings, tmp_path: Path
) -> None:
    new_l, _, new_g, _ = candidates.values()
    few = policy.model_copy(update={"equal_alarm_rates": ("city", "tenure"), "review_capacity_per_day": 1})
    fused = fuse(uneven, [new_l], [new_g], few)
    assert len(fused.alarm_offsets["tenure"]) == 4
    bundle = write_bundle(tmp_path, fused, lightgbm=new_l.sha12, gnn=new_g.sha12, policy=few, facts={})
    served = Fusion.load(bundle.folder)
    assert served.alarm_offsets == fused.alarm_offsets
    test = fused.scores[fused.scores["split"] == "test"]
    p, types = test["challenger"].to_numpy(float), test["event_type"].to_numpy(object)
    offline = decide(fused.thresholds, types, Labelled.of(test).alarm_score(p, fused.alarm_offsets))
    online = []
    for (_, row), probability in zip(test.iterrows(), p, strict=True):
        offset = served.offset(np.array([row["city"]], object), np.array([row["rider_tenure_days"]]))
        alarm = alarm_score(np.array([probability]), offset)
        online += decide(served.thresholds, np.array([row["event_type"]], object), alarm).tolist()
    assert online == offline.tolist()
    assert online != decide(fused.thresholds, types, p).tolist()


def test_an_unscored_event_is_an_error(
    training_set: pd.DataFrame, candidates: dict[str, Candidate], policy: ThresholdSettings
) -> None:
    new_l, _, new_g, _ = candidates.values()
    with pytest.raises(ValueError, match="no score for 1 labelled"):
        fuse(training_set, [Candidate(new_l.sha12, new_l.log_odds.iloc[:-1])], [new_g], policy)


def test_a_champion_scores_as_when_it_was_trained(training_set: pd.DataFrame, tmp_path: Path) -> None:
    settings = LightGbmSettings(rounds=10, num_threads=1)
    trained = train(training_set, settings)
    bundle = write_lightgbm(tmp_path / "champion", trained, training_set, settings, "0" * 64)
    champion = score_lightgbm(bundle.folder, training_set)
    then = score(trained, training_set).set_index("event_id")["lgb_log_odds"]
    assert champion.sha12 == bundle.sha12
    np.testing.assert_array_equal(champion.log_odds.to_numpy(), then[champion.log_odds.index].to_numpy())


def test_a_champion_s_graph_scores_replay_as_when_it_was_trained(small_dataset: Dataset, tmp_path: Path) -> None:
    events = (
        small_dataset.event_table().select(["event_id", "event_type", "event_timestamp", "ingested_at"]).to_pandas()
    )
    scored = events[events["event_type"] != "trip_cancelled"].reset_index(drop=True)
    day = (scored["ingested_at"] - scored["ingested_at"].min().floor("D")).dt.days
    split = np.select([day < 4, day < 5, day < 6, day < 7], ["train", "valid", "calibrate", "test"], "none")
    rng = np.random.default_rng(0)
    context = pd.DataFrame(rng.exponential(3.0, (len(scored), len(CONTEXT_FEATURES))), columns=list(CONTEXT_FEATURES))
    labels = scored.assign(split=split, y=(rng.random(len(scored)) < 0.05).astype(float)).join(context)
    choices = GnnSettings(epochs=1, hidden=8)
    bundle, then = train_and_write(small_dataset, labels, choices, tmp_path / "gnn")
    champion = score_gnn(bundle.folder, small_dataset, labels)
    assert champion.sha12 == bundle.sha12
    assert set(labels.loc[labels["split"].isin(["calibrate", "test"]), "event_id"]) <= set(champion.log_odds.index)
    expected = then.set_index("event_id").loc[champion.log_odds.index]
    np.testing.assert_allclose(champion.log_odds, expected["gnn_log_odds"], rtol=0, atol=1e-5)
    np.testing.assert_allclose(champion.no_graph, expected["gnn_log_odds_no_graph"], rtol=0, atol=1e-5)


def test_a_graph_model_that_cannot_do_without_its_graph_has_no_row_for_that(
    training_set: pd.DataFrame, candidates: dict[str, Candidate], policy: ThresholdSettings, tmp_path: Path
) -> None:
    new_l, old_l, new_g, old_g = candidates.values()
    blind = Candidate(new_g.sha12, new_g.log_odds, new_g.log_odds * 0.5)
    fused = fuse(training_set, [new_l, old_l], [blind, old_g], policy)
    served = Fusion.load(
        write_bundle(tmp_path, fused, lightgbm=new_l.sha12, gnn=blind.sha12, policy=policy, facts={}).folder
    )
    assert served.knows_missing_graphs
    left, right, old = (Score(c.log_odds.to_numpy()[:5], c.sha12) for c in (new_l, blind, old_g))
    both, alone = served.combine(left, right, "no_graph", 5), served.combine(left, old, "no_graph", 5)
    assert (both.used_lightgbm, both.used_gnn) == (True, True)
    assert (alone.used_lightgbm, alone.used_gnn) == (True, False)
    assert (both.probability != served.combine(left, right, "full", 5).probability).all()
    np.testing.assert_allclose(alone.probability, sigmoid(left.log_odds), rtol=1e-12)
