"""Who may know what, and when: refits, splits and labels as dates."""

from __future__ import annotations

from datetime import date

import pandas as pd
import pytest

from inference_services.policy_settings import ThresholdSettings
from pipelines.errors import StepError
from pipelines.local_stack import MANIFESTS
from pipelines.prequential import protocol
from pipelines.prequential.protocol import Refit
from pipelines.prequential.settings import PrequentialSettings

FIRST, CUTOFF = date(2026, 6, 1), date(2026, 7, 20)
SETTINGS = PrequentialSettings(history_days=30, valid_days=5, calibrate_days=4)
REFIT = Refit(CUTOFF, date(2026, 8, 3))


@pytest.fixture(scope="module")
def policy() -> ThresholdSettings:
    found = ThresholdSettings.read(MANIFESTS / "policy" / "threshold_settings.yaml")
    return found.model_copy(update={"label_maturation_days": {"default": 10, "collusion": 6}})


@pytest.fixture
def frame() -> pd.DataFrame:
    """One event at noon of each day for nine weeks."""
    at = pd.date_range("2026-06-01 12:00", periods=63, freq="D", tz="UTC")
    return pd.DataFrame(
        {"event_id": [f"e{i}" for i in range(63)], "event_type": "trip_requested", "event_timestamp": at, "arrived": at}
    )


def labels(*rows: tuple[str, bool, str]) -> pd.DataFrame:
    found = pd.DataFrame(rows, columns=["event_id", "is_fraud", "observed_at"])
    found["observed_at"] = pd.to_datetime(found["observed_at"], utc=True, format="ISO8601")
    return found.assign(typology=found["is_fraud"].map({True: "collusion", False: None}), source="chargeback")


def learnt(frame: pd.DataFrame, known: pd.DataFrame, policy: ThresholdSettings) -> pd.DataFrame:
    return protocol.to_learn_from(frame, known, REFIT, FIRST, policy=policy, settings=SETTINGS)


def test_six_weeks_with_a_refit_every_second_are_three_refits_of_two_weeks() -> None:
    refits = protocol.plan(date(2026, 6, 6), date(2026, 10, 10), PrequentialSettings())
    assert [(r.cutoff, r.until) for r in refits] == [
        (date(2026, 8, 29), date(2026, 9, 12)),
        (date(2026, 9, 12), date(2026, 9, 26)),
        (date(2026, 9, 26), date(2026, 10, 10)),
    ]
    assert [w for r in refits for w in r.weeks()] == [date(2026, 8, 29) + protocol.WEEK * k for k in range(6)]


def test_the_last_refit_may_be_judged_on_fewer_weeks() -> None:
    refits = protocol.plan(FIRST, date(2026, 8, 3), PrequentialSettings(weeks=3))
    assert [(r.until - r.cutoff).days for r in refits] == [14, 7]


def test_a_dataset_that_is_too_short_is_refused_with_what_is_needed() -> None:
    with pytest.raises(StepError, match="leave 7 days to learn from; at least 18"):
        protocol.plan(FIRST, date(2026, 7, 20), PrequentialSettings())


def test_the_last_settled_days_calibrate_and_those_before_them_stop_the_training() -> None:
    assert protocol.splits_before(FIRST, date(2026, 7, 10), SETTINGS) == {
        "train": (date(2026, 6, 10), date(2026, 7, 1)),
        "valid": (date(2026, 7, 1), date(2026, 7, 6)),
        "calibrate": (date(2026, 7, 6), date(2026, 7, 10)),
    }
    with pytest.raises(StepError, match="no day to train on"):
        protocol.splits_before(FIRST, date(2026, 6, 12), SETTINGS)


def test_a_label_observed_at_the_cutoff_is_not_known_and_one_a_moment_earlier_is(
    frame: pd.DataFrame, policy: ThresholdSettings
) -> None:
    early = labels(("e20", True, "2026-07-19 23:59:59.999999"), ("e21", True, "2026-07-20 00:00:00"))
    y = learnt(frame, early, policy).set_index("event_id")["y"]
    assert (y["e20"], y["e21"]) == (1.0, 0.0)


def test_nothing_that_arrived_at_the_cutoff_or_later_is_learnt_from(
    frame: pd.DataFrame, policy: ThresholdSettings
) -> None:
    late = frame["arrived"].mask(frame["event_id"] == "e30", protocol.midnight(CUTOFF))
    found = learnt(frame.assign(arrived=late), labels(("e30", True, "2026-07-10")), policy)
    assert "e30" not in set(found["event_id"])
    assert (found["arrived"] < protocol.midnight(CUTOFF)).all()
    known = protocol.as_known(frame.assign(arrived=late), labels(), CUTOFF, policy)
    assert known["event_id"].tolist() == [f"e{i}" for i in range(49) if i != 30]


def test_silence_counts_as_honest_only_after_the_labels_delay(frame: pd.DataFrame, policy: ThresholdSettings) -> None:
    found = learnt(frame, labels(), policy)
    assert found["arrived"].max() < protocol.midnight(date(2026, 7, 10))
    shorter = learnt(frame, labels(("e9", True, "2026-06-20")), policy)
    assert shorter["arrived"].max().date() == date(2026, 7, 13), "the only fraud known of this type settles in 6 days"


def test_the_splits_of_a_refit_do_not_overlap_and_come_in_order(frame: pd.DataFrame, policy: ThresholdSettings) -> None:
    ends = learnt(frame, labels(), policy).groupby("split")["arrived"].agg(["min", "max"])
    assert ends.loc["train", "max"] < ends.loc["valid", "min"]
    assert ends.loc["valid", "max"] < ends.loc["calibrate", "min"]
    assert ends.loc["calibrate", "max"] < protocol.midnight(CUTOFF) - pd.Timedelta(days=10)


def test_clean_labels_reach_up_to_the_cutoff_and_not_beyond(frame: pd.DataFrame) -> None:
    truth = pd.DataFrame({"event_id": ["e48", "e50"], "is_fraud": True, "typology": "collusion"})
    found = protocol.to_learn_from_truth(frame, truth, REFIT, FIRST, SETTINGS).set_index("event_id")
    assert found.index[-1] == "e48"
    assert found.loc["e48", ["y", "typology", "split"]].tolist() == [1.0, "collusion", "calibrate"]


def test_judged_are_the_events_that_arrived_in_the_weeks(frame: pd.DataFrame) -> None:
    found = protocol.judged(frame, REFIT)
    assert found["event_id"].tolist() == [f"e{i}" for i in range(49, 63)]
