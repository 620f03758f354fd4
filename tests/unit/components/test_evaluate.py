from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from components.errors import TooFewLabels
from components.evaluate.labelled import Labelled
from components.evaluate.latency import median_ms
from components.evaluate.logic import evaluate, flat_metrics, to_json
from components.evaluate.report import render, write_report
from components.evaluate.results import Check, ModelResult, Report, WeekResult, curves_of
from components.evaluate.step import report_of
from components.fuse_and_calibrate.thresholds import all_thresholds
from inference_services.policy_settings import ThresholdSettings
from inference_services.transformer.fusion import Thresholds

RNG = np.random.default_rng(3)
CONTEXT = ["event_id", "event_type", "event_timestamp", "rider_id", "y", "typology", "split", "city"]


@pytest.fixture
def scores(training_set: pd.DataFrame) -> pd.DataFrame:
    y = training_set["y"].to_numpy()
    return training_set[[*CONTEXT, "rider_tenure_days"]].assign(
        device_gps_accuracy_m=RNG.gamma(2.0, 6.0, len(y)),
        cluster=training_set["rider_id"].str[-1],
        challenger=np.where(y == 1, 0.999, 0.0001),
        lightgbm_alone=y.mean() + RNG.uniform(0, 1e-3, len(y)),
    )


def test_an_oracle_saves_everything_and_a_blind_score_nothing(scores: pd.DataFrame, policy: ThresholdSettings) -> None:
    thresholds = all_thresholds(policy, policy.review_cost)
    found = evaluate(scores, thresholds, policy, rounds=20)
    oracle, blind = found["pairs"]["challenger"], found["pairs"]["lightgbm_alone"]
    assert (oracle["average_precision"], oracle["cost_saved_share"], oracle["cost_per_day"]) == (1.0, 1.0, 0.0)
    assert oracle["good_blocked_share"] == 0.0
    assert set(oracle["recall_at_1%_fpr_by_typology"]) == {"collusion", "gps_spoofing"}
    assert set(oracle["recall_at_1%_fpr_by_typology"].values()) == {1.0}
    assert oracle["average_precision_by_typology"]["collusion"] == 1.0
    assert blind["average_precision"] < 3 * found["prevalence"]
    assert blind["brier_skill"]["low"] < 0.0005
    never = {name: Thresholds(1.0, 1.0) for name in thresholds}
    idle = evaluate(scores, never, policy, rounds=2)["pairs"]["lightgbm_alone"]
    assert (idle["cost_saved_per_day"], idle["decisions_per_day"]["block"]) == (0.0, 0.0)


def test_only_test_days_are_judged(scores: pd.DataFrame, policy: ThresholdSettings) -> None:
    thresholds = all_thresholds(policy, policy.review_cost)
    other = scores.assign(challenger=scores["challenger"].where(scores["split"] == "test", 0.5))
    found, again = (to_json(evaluate(frame, thresholds, policy, rounds=5)) for frame in (scores, other))
    assert found == again


def test_offsets_move_alarms_and_leave_the_probability_to_be_judged(
    scores: pd.DataFrame, policy: ThresholdSettings
) -> None:
    blind = scores.assign(
        challenger=RNG.uniform(0.01, 0.2, len(scores)), rider_tenure_days=np.where(scores.index % 4 == 0, 3.0, 400.0)
    )
    thresholds = all_thresholds(policy, policy.review_cost)
    plain, moved = (
        evaluate(blind, thresholds, policy, offsets=offsets, rounds=5)["pairs"]["challenger"]
        for offsets in ({}, {"tenure": {"under 7 days": 9.0}})
    )
    for name in ("average_precision", "average_precision_by_typology", "calibration_error", "brier_skill"):
        assert moved[name] == plain[name]
    for name in ("recall_at_fpr", "cost_per_day", "decisions_per_day"):
        assert moved[name] != plain[name]
    rates = [pair["fairness"]["tenure"]["groups"]["under 7 days"]["value"] for pair in (plain, moved)]
    assert rates[0] > 0.02
    assert rates[1] == 0.0


def test_a_test_split_without_fraud_is_refused(scores: pd.DataFrame, policy: ThresholdSettings) -> None:
    with pytest.raises(TooFewLabels, match=r"split 'test' has 0 fraud and \d+ honest events"):
        evaluate(scores.assign(y=0.0), all_thresholds(policy, 1.0), policy)


def test_the_champion_is_compared_on_the_same_resamples(scores: pd.DataFrame, policy: ThresholdSettings) -> None:
    noisy = scores["challenger"] * 0.3 + RNG.uniform(0, 0.4, len(scores))
    pairs = scores.assign(champion=scores["challenger"], lightgbm_canary=noisy, gnn_canary=scores["challenger"])
    found = evaluate(pairs, all_thresholds(policy, policy.review_cost), policy, rounds=50)["pairs"]
    assert found["challenger"]["minus_champion"]["average_precision"] == {"value": 0.0, "low": 0.0, "high": 0.0}
    assert found["lightgbm_canary"]["minus_champion"]["average_precision"]["high"] < 0
    assert "minus_champion" not in found["lightgbm_alone"]


def test_groups_are_those_of_the_frame_and_clusters_fall_back_on_riders(scores: pd.DataFrame) -> None:
    events = Labelled.of(scores)
    assert set(events.groups) == {"city", "device_tier", "tenure"}
    assert events.cluster.max() + 1 == 16
    bare = Labelled.of(scores.drop(columns=["city", "rider_tenure_days", "device_gps_accuracy_m", "cluster"]))
    assert bare.groups == {}
    assert bare.cluster.max() + 1 == scores["rider_id"].nunique()


def test_a_score_that_is_nan_leaves_nothing_to_pass_a_gate(scores: pd.DataFrame, policy: ThresholdSettings) -> None:
    broken = scores.assign(challenger=np.where(np.arange(len(scores)) % 7 == 0, np.nan, scores["challenger"]))
    found = json.loads(to_json(evaluate(broken, all_thresholds(policy, 1.0), policy, rounds=3)))
    pair = found["pairs"]["challenger"]
    assert pair["average_precision"] is None
    assert pair["calibration_slope"]["value"] is None
    assert pair["brier_skill"]["value"] is None


def test_metrics_flatten_to_names_that_mlflow_takes(scores: pd.DataFrame, policy: ThresholdSettings) -> None:
    found = evaluate(scores, all_thresholds(policy, policy.review_cost), policy, rounds=2)
    flat = flat_metrics(json.loads(to_json(found)))
    assert flat["pairs.challenger.recall_at_fpr.0.1pct"] == 1.0
    assert not [name for name in flat if "%" in name]
    interval = [flat[f"pairs.lightgbm_alone.average_precision_95.{side}"] for side in ("low", "high")]
    assert interval[0] <= interval[1]


def test_every_number_of_an_evaluation_is_logged(scores: pd.DataFrame, policy: ThresholdSettings) -> None:
    found = to_json(evaluate(scores, all_thresholds(policy, policy.review_cost), policy, rounds=2))
    numbers: list[str] = []
    json.loads(found, parse_float=numbers.append, parse_int=numbers.append)
    assert len(flat_metrics(json.loads(found))) == len(numbers)


def test_a_median_of_calls_leaves_out_the_warm_up() -> None:
    seen: list[int] = []
    assert 0 <= median_ms(seen.append, calls=5) < 50
    assert seen[-5:] == [0, 1, 2, 3, 4]


class Page(HTMLParser):
    """The tags and texts of a page, which must close what it opens."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.sources: list[str] = []
        self.tags: list[str] = []
        self.texts: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.sources += [value or "" for name, value in attrs if name in {"src", "href"}]
        if tag not in {"meta", "img"}:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_a_pipeline_s_page_needs_no_network_and_shows_every_pair(
    scores: pd.DataFrame, policy: ThresholdSettings
) -> None:
    found = evaluate(scores, all_thresholds(policy, policy.review_cost), policy, rounds=5)
    page = Page(render(report_of(scores, found | {"latency_ms": {"lightgbm": 0.1, "gnn": 1.5}}, policy)))
    assert page.open == []
    assert len(page.sources) == 5
    assert all(source.startswith("data:image/png;base64,") for source in page.sources)
    assert "script" not in page.tags
    assert {"challenger", "LightGBM alone", "Calibration", "tenure: lowest over highest"} <= set(page.texts)
    assert "0.10 ms (LightGBM), 1.50 ms (graph network)" in page.texts


def test_a_report_of_several_weeks_has_their_lines_and_escapes_names(
    scores: pd.DataFrame, policy: ThresholdSettings, tmp_path: Path
) -> None:
    events = Labelled.of(scores[scores["split"] == "test"])
    p = scores.loc[scores["split"] == "test", "challenger"].to_numpy(float)
    name = '<b onload="x">fusion</b>'
    report = Report(
        title="Prequential <weeks>",
        facts={"seeds": "1 & 2"},
        prevalence=0.01,
        models=[
            ModelResult(name, {"average_precision": 0.4}, curves_of(events, p, policy, rounds=5)),
            ModelResult("shuffled labels", {"average_precision": float("nan")}, role="control"),
        ],
        weeks=[WeekResult(name, f"2026-01-0{day}", seed, 0.5 - 0.1 * seed) for day in (1, 8) for seed in (1, 2)],
        checks=[Check("lift", "1.2", "at least 1.1", passed=True), Check("gain", "?", "above 0", passed=None)],
    )
    write_report(report, tmp_path / "report.html", tmp_path / "report.json")
    page = Page((tmp_path / "report.html").read_text())
    assert {name, "Prequential <weeks>", "1 & 2", "control", "met", "undecided"} <= set(page.texts)
    assert "b" not in page.tags
    assert {"0.350", "0.300 to 0.400"} <= set(page.texts)  # mean and range over the seeds
    assert len(page.sources) == 5
    content = json.loads((tmp_path / "report.json").read_text())
    assert content["models"][1]["measures"]["average_precision"] is None
    assert len(content["weeks"]) == 4


def test_an_empty_report_is_still_a_page() -> None:
    page = Page(render(Report("Nothing", {}, float("nan"), [])))
    assert "Nothing" in page.texts
    assert page.open == []
