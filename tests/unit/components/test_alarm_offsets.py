from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from components.fuse_and_calibrate.alarm_offsets import ALARM_RATE, ENOUGH_HONEST, fit_alarm_offsets
from inference_services.alarm_groups import alarm_groups, alarm_offset, alarm_score
from inference_services.calibration import sigmoid

N = 60_000
CITY_SHIFT = {"tehran": 0.6, "isfahan": -0.3, "mashhad": 0.0}
TENURE_SHIFT = {3.0: 2.0, 20.0: 0.4, 60.0: 0.0, 900.0: -0.7}


@pytest.fixture(scope="module")
def shifted() -> tuple[NDArray[np.float64], NDArray[np.float64], dict[str, NDArray[np.object_]]]:
    """Probabilities whose log-odds are shifted by city and tenure, which go together: new riders live in Tehran."""
    rng = np.random.default_rng(5)
    tenure = rng.choice(list(TENURE_SHIFT), N, p=[0.1, 0.2, 0.3, 0.4])
    city = np.where((tenure < 7) & (rng.random(N) < 0.6), "tehran", rng.choice(list(CITY_SHIFT), N)).astype(object)
    y = (rng.random(N) < 0.02).astype(float)
    shift = np.array([CITY_SHIFT[c] + TENURE_SHIFT[t] for c, t in zip(city, tenure, strict=True)])
    return sigmoid(rng.logistic(-4, 1, N) + 4 * y + shift), y, alarm_groups(city, tenure)


def alarmed(score: NDArray[np.float64], y: NDArray[np.float64], group: NDArray[np.object_]) -> dict[str, float]:
    """Share of each group's honest events above the threshold that 5 % of all honest events reach."""
    flagged = score >= np.quantile(score[y == 0], 1 - ALARM_RATE)
    return {str(name): float(flagged[(y == 0) & (group == name)].mean()) for name in set(group.tolist())}


@pytest.mark.parametrize("divisions", [["city"], ["tenure"], ["city", "tenure"], ["tenure", "city"]])
def test_honest_events_of_each_group_are_alarmed_equally_often(shifted, divisions: list[str]) -> None:  # type: ignore[no-untyped-def]
    p, y, groups = shifted
    offsets = fit_alarm_offsets(p, y, groups, divisions)
    assert list(offsets) == divisions
    score = alarm_score(p, alarm_offset(offsets, groups, N))
    for division in divisions:
        before, after = alarmed(p, y, groups[division]), alarmed(score, y, groups[division])
        assert min(before.values()) / max(before.values()) < 0.6
        assert min(after.values()) / max(after.values()) > 0.97
    raised = float(np.quantile(score[y == 0], 0.95) / np.quantile(p[y == 0], 0.95))
    assert raised == pytest.approx(1.0, abs=0.01)


def test_two_divisions_together_find_the_shifts_that_were_made(shifted) -> None:  # type: ignore[no-untyped-def]
    p, y, groups = shifted
    city = fit_alarm_offsets(p, y, groups, ["city", "tenure"])["city"]
    assert city["tehran"] - city["isfahan"] == pytest.approx(0.9, abs=0.2)
    alone = fit_alarm_offsets(p, y, groups, ["city"])["city"]
    assert alone["tehran"] - alone["isfahan"] > 1.1


def test_fraud_does_not_move_the_offsets(shifted) -> None:  # type: ignore[no-untyped-def]
    p, y, groups = shifted
    other = np.where(y == 1, 0.5, p)
    assert fit_alarm_offsets(other, y, groups, ["tenure"]) == fit_alarm_offsets(p, y, groups, ["tenure"])


def test_a_small_group_has_its_share_of_the_offset() -> None:
    rng = np.random.default_rng(6)
    small = ENOUGH_HONEST // 10
    group = np.array(["big"] * 20_000 + ["small"] * small, object)
    p = sigmoid(rng.logistic(-4, 1, len(group)) + 3 * (group == "small"))
    groups, y = {"city": group}, np.zeros(len(group))
    whole = fit_alarm_offsets(p, y, groups, ["city"], enough=1)["city"]["small"]
    assert fit_alarm_offsets(p, y, groups, ["city"])["city"]["small"] == pytest.approx(whole / 10)


def test_a_band_without_honest_events_follows_the_next_younger_one(shifted) -> None:  # type: ignore[no-untyped-def]
    p, y, _ = shifted
    tenure = np.where(np.arange(N) % 2 == 0, 20.0, 60.0)
    offsets = fit_alarm_offsets(p, y, alarm_groups(np.full(N, "tehran", object), tenure), ["tenure"])["tenure"]
    assert offsets["under 7 days"] == offsets["7 to 29 days"] != offsets["30 to 89 days"]
    assert offsets["90 days or more"] == offsets["30 to 89 days"]


def test_the_unknown_and_an_empty_policy_have_no_offset(shifted) -> None:  # type: ignore[no-untyped-def]
    p, y, _ = shifted
    nobody = alarm_groups(np.full(N, "tehran", object), np.full(N, np.nan))
    assert fit_alarm_offsets(p, y, nobody, ["tenure"]) == {"tenure": {}}
    assert fit_alarm_offsets(p, y, nobody, []) == {}
    assert fit_alarm_offsets(p, np.ones(N), nobody, ["tenure"]) == {}
