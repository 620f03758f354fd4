from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from inference_services.alarm_groups import (
    TENURE_BANDS,
    alarm_groups,
    alarm_offset,
    alarm_score,
    read_offsets,
    tenure_band,
)
from inference_services.calibration import sigmoid
from inference_services.transformer.fusion import UNKNOWN

OFFSETS = {"city": {"tehran": 0.25}, "tenure": {"under 7 days": 1.5, "90 days or more": -0.5}}


def test_tenures_fall_into_their_bands() -> None:
    days = np.array([0.0, 6.9, 7, 29, 30, 89, 90, 4000, np.nan])
    assert tenure_band(days).tolist() == [name for _, name in TENURE_BANDS for _ in (1, 2)] + ["unknown"]


def test_an_event_s_offset_is_the_sum_over_its_groups_and_the_unknown_have_none() -> None:
    city = np.array(["tehran", "tehran", "tehran", "nowhere", "nowhere"], object)
    groups = alarm_groups(city, np.array([1.0, 400.0, np.nan, 1.0, np.nan]))
    assert alarm_offset(OFFSETS, groups, 5).tolist() == [1.75, -0.25, 0.25, 1.5, 0.0]
    assert alarm_offset(OFFSETS, {"city": groups["city"]}, 5).tolist() == [0.25, 0.25, 0.25, 0.0, 0.0]


def test_the_score_is_the_log_odds_less_the_offset() -> None:
    odds = np.linspace(-12, 12, 97)
    np.testing.assert_allclose(alarm_score(sigmoid(odds), np.full(97, 1.5)), sigmoid(odds - 1.5), rtol=1e-9)


def test_no_offset_leaves_a_probability_as_it_is_bit_by_bit() -> None:
    p = np.concatenate([np.random.default_rng(1).random(1000), [0.0, 1.0, 1e-300, 1 - 1e-16]])
    np.testing.assert_array_equal(alarm_score(p, np.zeros(len(p))), p)


def test_certain_events_stay_certain_and_those_that_no_model_scored_stay_so() -> None:
    p = np.array([0.0, 1.0, UNKNOWN])
    for offset in (-2.0, 2.0):
        assert alarm_score(p, np.full(3, offset)).tolist() == p.tolist()


def test_offsets_read_back_as_they_were_written() -> None:
    assert read_offsets({}) == {}
    assert read_offsets(OFFSETS) == OFFSETS


@pytest.mark.parametrize(
    "content",
    [
        {"device_tier": {"coarse": 0.1}},
        {"city": {"tehran": float("nan")}},
        {"city": {"tehran": float("inf")}},
        {"city": {"tehran": "high"}},
        {"city": {"tehran": None}},
        {"city": None},
        {"tenure": {"under 8 days": 0.1}},
        {"tenure": {"unknown": 0.1}},
        None,
        [],
    ],
)
def test_bad_offsets_are_refused(content: Any) -> None:
    with pytest.raises((ValueError, TypeError, AttributeError)):
        read_offsets(content)
