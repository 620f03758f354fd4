"""What the judge is given of a decision log, and of the labels."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.judge_canary.logic import CHALLENGER, CHAMPION, NOBODY
from components.observe_canary.decisions import Arms, observed, outcomes, read_decisions, versions_of
from feature_repo.labels import LABEL_COLUMNS
from inference_services.decision_log.files import append
from inference_services.policy_settings import ThresholdSettings
from inference_services.transformer.predictors import Answer
from tests.conftest import ROOT
from tests.decision_samples import decisions

POLICY = ThresholdSettings.read(ROOT / "manifests" / "base" / "policy" / "threshold_settings.yaml")
START = datetime(2026, 6, 1, 12, tzinfo=UTC)
OLD, NEW = "a" * 12, "b" * 12
ARMS = Arms("fraud-lightgbm", OLD, NEW)


def answer(label: str, n: int) -> Answer:
    return Answer({name: np.zeros(n) for name in ("raw_score", "log_odds", "probability")}, label, {})


def write(log: Path, label: str | None, after_s: float, n: int = 1, **changes: Any) -> list[bytes]:
    """Logs a batch of n decisions that were made together, so long after the start."""
    at = START + timedelta(seconds=after_s)
    given = {"lightgbm": answer(label, n) if label else None, "decided_at": int(at.timestamp() * 1e6), **changes}
    records = list(decisions(n, **given).encode())
    milliseconds = int(at.timestamp() * 1000)
    append(log, [(f"{milliseconds}-{row}", record) for row, record in enumerate(records)])
    return records


@pytest.fixture
def log(tmp_path: Path) -> Path:
    log = tmp_path / "log"
    write(log, f"1-{OLD}", -5)
    write(log, f"1-{OLD}", 1, n=3)
    write(log, f"2-{NEW}", 2, latency_ms=80.0, outputs=decided("allow"))
    write(log, None, 3)
    write(log, f"7-{'c' * 12}", 4)
    return log


def decided(decision: str) -> dict[str, Any]:
    outputs = dict(decisions(1).outputs)
    return outputs | {"decision": np.array([decision], object), "reasons": np.array(["[]"], object)}


def test_arms_units_and_times_come_from_the_log(log: Path) -> None:
    found = read_decisions(log, ARMS, START)
    assert found["arm"].tolist() == [CHAMPION] * 3 + [CHALLENGER, NOBODY, NOBODY]
    assert found["unit"].tolist() == [0, 0, 0, 1, 2, 3]
    seen = observed(found, POLICY.latency_budget_ms)
    assert seen.slow.tolist() == [False] * 3 + [True, False, False]
    assert seen.alarmed.tolist() == [True] * 3 + [False, True, True]
    assert np.isnan(seen.cost).all()


def test_copies_of_a_decision_count_once(log: Path) -> None:
    records = write(log, f"2-{NEW}", 9)
    append(log, [("1780900000000-0", records[0])])
    assert (read_decisions(log, ARMS, START)["arm"] == CHALLENGER).sum() == 2


def test_no_log_is_no_decisions(tmp_path: Path) -> None:
    found = read_decisions(tmp_path / "none", ARMS, START)
    assert len(found) == len(observed(found, 50.0)) == 0


def test_versions_are_counted(log: Path) -> None:
    assert versions_of(log, "fraud-lightgbm") == {f"1-{OLD}": 4, f"2-{NEW}": 1, f"7-{'c' * 12}": 1}


def test_costs_are_known_when_silence_counts(log: Path, tmp_path: Path) -> None:
    """The sampled events are payments of one time: a review costs a look, a fraud that was let pass what it took."""
    found = read_decisions(log, ARMS, START)
    happened = found["event_timestamp"].iloc[0].to_pydatetime()
    labels = [
        {"event_id": found["event_id"][3], "is_fraud": False, "source": "reviewer", "observed_at": happened},
        {"event_id": found["event_id"][3], "is_fraud": True, "source": "chargeback", "observed_at": happened},
    ]
    folder = tmp_path / "labels" / "day=2026-06-02"
    folder.mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(labels, LABEL_COLUMNS), folder / "part.parquet")
    window = timedelta(days=max(POLICY.label_maturation_days.values()))

    early = outcomes(found, tmp_path / "labels", happened + window, POLICY)
    assert np.isnan(early).all()
    late = outcomes(found, tmp_path / "labels", happened + window + timedelta(seconds=1), POLICY)
    cost = observed(found, 50.0, late, POLICY).cost
    reviewed, missed = POLICY.review_cost, POLICY.missed_fraud_cost["payment_authorized"]
    same = found["event_id"].to_numpy() == found["event_id"][3]
    assert late.tolist() == same.astype(float).tolist()
    assert cost.tolist() == [reviewed] * 3 + [missed] + [reviewed] * 2
