"""What the decision log says of a canary, as the columns that the judge reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import orjson
import pandas as pd
from numpy.typing import NDArray

from components.fuse_and_calibrate.thresholds import policy_cost
from components.judge_canary.logic import CHALLENGER, CHAMPION, NOBODY, Observed
from feature_repo.event_log import log_days, read_parquet
from feature_repo.labels import LABEL_SOURCES, read_labels
from inference_services.bundle import sha12_of
from inference_services.decision_log.files import files
from inference_services.policy_settings import ThresholdSettings

_COLUMNS = ["decision_id", "event_id", "event_type", "decided_at", "decision", "fraud_probability", "record"]


@dataclass(frozen=True, slots=True)
class Arms:
    """Which versions of one model are compared.

    Attributes:
        model: fraud-lightgbm or fraud-gnn.
        champion: content id.
        challenger: content id.
    """

    model: str
    champion: str
    challenger: str

    @property
    def column(self) -> str:
        """The decision log's column with the version that answered."""
        return f"{self.model.removeprefix('fraud-')}_version"


def read_decisions(log: Path, arms: Arms, since: datetime) -> pd.DataFrame:
    """The logged decisions from `since` on, each once, in the order in which they were made.

    Returns:
        decision_id, event_id, event_type, decided_at, decision, fraud_probability, event_timestamp, latency_ms, and
        unit and arm as in `Observed`; NOBODY also where another version answered.

    Raises:
        CorruptValue: a file of the log is damaged.
    """
    days = {day for day in log_days(log) if day >= since.astimezone(UTC).date()}
    parts = [read_parquet(file, [*_COLUMNS, arms.column]).to_pandas() for file in files(log, days)]
    rows = pd.concat(parts) if parts else pd.DataFrame(columns=[*_COLUMNS, arms.column])
    rows["decided_at"] = pd.to_datetime(rows["decided_at"], utc=True)
    rows = rows[rows["decision_id"].notna() & (rows["decided_at"] >= since)]
    rows = rows.drop_duplicates("decision_id").sort_values(["decided_at", "decision_id"], ignore_index=True)
    records = [orjson.loads(record) for record in rows.pop("record")]
    rows["latency_ms"] = [float(record["latency_ms"]) for record in records]
    happened = [int(record["event"]["event_timestamp"]) for record in records]
    rows["event_timestamp"] = pd.to_datetime(pd.Series(happened, dtype="int64"), unit="us", utc=True)
    # What was decided together has one id but for its last number.
    rows["unit"] = pd.factorize(rows["decision_id"].str.rpartition("-")[0])[0] if len(rows) else []
    by_sha12 = {arms.challenger: CHALLENGER, arms.champion: CHAMPION}
    answered = [sha12_of(version or "") for version in rows.pop(arms.column)]
    rows["arm"] = np.array([by_sha12.get(sha12 or "", NOBODY) for sha12 in answered], np.int64)
    return rows


def outcomes(decisions: pd.DataFrame, labels: Path, as_of: datetime, policy: ThresholdSettings) -> NDArray[np.float64]:
    """Whether each decided event was fraud: 1, 0, or NaN while that is not known, [n].

    Known is what is so old that silence counts as honest, by the longest of the policy's windows; to take labels as
    they come would count the frauds before the rest.

    Args:
        decisions: of `read_decisions`.
        labels: the label log.
        as_of: now; labels that were observed later are not read.
        policy: its windows.
    """
    found = read_labels(labels).to_pandas()
    found = found[pd.to_datetime(found["observed_at"], utc=True) < as_of]
    rank = {source: position for position, source in enumerate(LABEL_SOURCES)}
    found = found.sort_values("source", key=lambda source: source.map(rank), kind="stable").drop_duplicates("event_id")
    fraud = set(found.loc[found["is_fraud"], "event_id"])
    mature = decisions["event_timestamp"] < as_of - timedelta(days=max(policy.label_maturation_days.values()))
    return np.where(mature, decisions["event_id"].isin(fraud), np.nan)


def observed(
    decisions: pd.DataFrame,
    budget_ms: float,
    outcome: NDArray[np.float64] | None = None,
    policy: ThresholdSettings | None = None,
) -> Observed:
    """The decisions as the judge reads them.

    Args:
        decisions: of `read_decisions`.
        budget_ms: within which a decision is to be made.
        outcome: of `outcomes`; none where no label can have come yet.
        policy: what wrong decisions cost; with `outcome` only.
    """
    decision, kinds = decisions["decision"].to_numpy(object), decisions["event_type"].to_numpy(object)
    cost = np.full(len(decisions), np.nan)
    if outcome is not None and policy is not None:
        cost = policy_cost(policy, decision, kinds, outcome)
        cost[np.isnan(outcome)] = np.nan
    return Observed(
        decisions["unit"].to_numpy(np.int64),
        decisions["arm"].to_numpy(np.int64),
        decisions["latency_ms"].to_numpy(float) > budget_ms,
        np.asarray(decision != "allow"),
        cost,
    )


def versions_of(log: Path, model: str) -> Mapping[str, int]:
    """How many decisions each version of a model answered for, by label: `<version>-<sha12>`."""
    column = f"{model.removeprefix('fraud-')}_version"
    counts: pd.Series[int] = pd.concat(
        [pd.Series(dtype=str), *(read_parquet(f, [column]).to_pandas()[column] for f in files(log))]
    ).value_counts()
    return {str(label): int(n) for label, n in counts.items()}
