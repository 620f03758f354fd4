"""How well a replayed day was decided, as rows for a table and a JSON report."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from components.evaluate import metrics
from components.fuse_and_calibrate.thresholds import policy_cost
from inference_services.policy_settings import ThresholdSettings


@dataclass(frozen=True, slots=True)
class Row:
    """One measured figure.

    Attributes:
        name: what was measured.
        value: the figure, or a word.
        unit: its unit; empty for a word or a plain number.
        bound: what it must keep, in words; empty when nothing is demanded.
        met: whether it does; None when nothing is demanded.
    """

    name: str
    value: float | int | str
    unit: str = ""
    bound: str = ""
    met: bool | None = None

    def text(self) -> str:
        """The figure for a person."""
        if isinstance(self.value, str):
            return self.value
        if self.unit == "share":
            return f"{self.value:.1%}"
        number = f"{self.value:,}" if isinstance(self.value, int) else f"{self.value:,.3g}"
        return f"{number} {self.unit}".strip()


def cost_saved(decisions: pd.DataFrame, y: NDArray[np.float64], policy: ThresholdSettings) -> float:
    """Toman saved against allowing everything, by the costs of `threshold_settings.yaml`."""
    types = decisions["event_type"].to_numpy(object)
    spent = policy_cost(policy, decisions["decision"].to_numpy(object), types, y)
    allowed = policy_cost(policy, np.full(len(y), "allow", object), types, y)
    return float(allowed.sum() - spent.sum())


def judge(decisions: pd.DataFrame, truth: pd.DataFrame, policy: ThresholdSettings, wall_s: float) -> list[Row]:
    """The figures of a replayed day.

    Args:
        decisions: one row per scored event, as `Replayed.decisions`.
        truth: event_id and is_fraud of the simulated world; events without a row are honest.
        policy: costs.
        wall_s: how long the replay took.
    """
    fraud = set(truth.loc[truth["is_fraud"], "event_id"])
    y = np.array([event_id in fraud for event_id in decisions["event_id"]], np.float64)
    score = decisions["fraud_probability"].to_numpy(float)
    rows = [Row("events scored", len(decisions)), Row("fraud among them", int(y.sum()))]
    rows += [Row(f"decided {d}", int((decisions["decision"] == d).sum())) for d in ("allow", "review", "block")]
    if 0 < y.sum() < len(y):
        rows += [
            Row("average precision", metrics.average_precision(y, score)),
            Row("recall at 1 % false positive rate", metrics.recall_at_fpr(y, score, 0.01), "share"),
            Row(
                "fraud reviewed or blocked",
                float((decisions["decision"].to_numpy() != "allow")[y == 1].mean()),
                "share",
            ),
        ]
    latency = decisions["latency_ms"]
    rows += [
        Row("cost saved against allowing all", round(cost_saved(decisions, y, policy)), "toman"),
        Row("degraded answers", float((decisions["degraded"] != "").mean()), "share"),
        Row("latency p50", float(latency.quantile(0.5)), "ms"),
        Row("latency p99", float(latency.quantile(0.99)), "ms"),
        Row("events replayed in lockstep", len(decisions) / wall_s, "events/s"),
    ]
    return rows


def write_report(path: Path, rows: Sequence[Row]) -> None:
    """Writes {"commit", "machine", "rows"}."""
    path.parent.mkdir(parents=True, exist_ok=True)
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    report = {"commit": git_commit(), "machine": machine, "rows": [asdict(row) for row in rows]}
    path.write_text(json.dumps(report, indent=2) + "\n")


def git_commit() -> str:
    """The commit of the code that runs; "unknown" outside a checkout."""
    command = ["git", "rev-parse", "HEAD"]
    root = Path(__file__).parent
    found = subprocess.run(command, capture_output=True, text=True, cwd=root, check=False)  # noqa: S603 - fixed
    return found.stdout.strip() or "unknown"
