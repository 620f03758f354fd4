from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from inference_services.calibration import Platt, read_calibrations, sigmoid
from inference_services.errors import BadSettings, BundleError
from inference_services.policy_settings import ThresholdSettings

POLICY = Path(__file__).parents[3] / "manifests/base/policy/threshold_settings.yaml"


def test_repository_policy_is_valid():
    policy = ThresholdSettings.read(POLICY)
    assert policy.latency_budget_ms == 50
    assert policy.missed_fraud_cost["payment_authorized"] == 600_000
    assert policy.sha256() == ThresholdSettings.read(POLICY).sha256()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("review_cost:", "revue_cost:", "review_cost"),
        ("latency_budget_ms: 50", "latency_budget_ms: 0", "latency_budget_ms"),
        ("  trip_requested:", "  trip_cancelled:", "false_block_cost"),
        ("review_cost: 15000", "review_cost: .nan", "review_cost"),
        ("  default: ", "  elsewhere: ", "label_maturation_days.* needs the key 'default'"),
        ("  default: 10", "  default: -1", "label_maturation_days.default"),
        ("  default: 10", "  default: soon", "label_maturation_days.default"),
        ("[city, tenure]", "[city, device_tier]", "equal_alarm_rates.1"),
        ("[city, tenure]", "[city, city]", "equal_alarm_rates: .* twice"),
    ],
)
def test_bad_policy_is_refused_by_name(old: str, new: str, message: str, tmp_path: Path):
    text = POLICY.read_text()
    assert old in text
    (tmp_path / "policy.yaml").write_text(text.replace(old, new, 1))
    with pytest.raises(BadSettings, match=message):
        ThresholdSettings.read(tmp_path / "policy.yaml")


def test_platt_gives_the_probability_of_its_log_odds():
    raw = np.array([-800.0, -1.0, 0.0, 2.0, 800.0])
    platt = Platt(2.0, 0.5)
    np.testing.assert_allclose(
        platt.probability(raw), [0, 1 / (1 + np.exp(1.5)), 1 / (1 + np.exp(-0.5)), 1 / (1 + np.exp(-4.5)), 1]
    )
    assert np.isfinite(sigmoid(np.array([-1e308, 1e308]))).all()


@pytest.mark.parametrize("content", [{}, {"full": {"slope": 1}}, {"full": {"slope": 1, "intercept": float("nan")}}, []])
def test_unusable_calibration_is_refused(content: object):
    with pytest.raises(BundleError, match="full"):
        read_calibrations(content, ("full",))
