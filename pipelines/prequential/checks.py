"""What must hold of an evaluation wherever it runs: the controls fail, and nothing looks ahead."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from components.evaluate.bootstrap import Interval, Paired, average_precision_interval
from components.evaluate.results import Check
from pipelines.prequential.judging import BASELINE, Pool, blind_by_type, graph_gain

MOST_OVER_CHANCE = 1.5
MOST_GAIN_LEFT = 0.2
_SHUFFLED = "shuffled_labels_lightgbm"


@dataclass(frozen=True)
class GraphGain:
    """What the graph network adds to trees that know the neighbours too, on fraud that shows in who meets whom.

    Attributes:
        fusion: average precision.
        baseline: of LightGBM with neighbours.
        gain: first minus second.
        ratio: first over second.
        shuffled: the gain when both read a graph whose edges were shuffled; None where that was not run.
        unshuffled: the gain on those same events; None where that was not run.
    """

    fusion: float
    baseline: float
    gain: Interval
    ratio: Interval
    shuffled: Interval | None
    unshuffled: Interval | None

    @classmethod
    def of(cls, pool: Pool, rounds: int) -> GraphGain:
        """Measures it."""
        real = graph_gain(pool, "fusion", BASELINE, rounds)
        return cls(*real.values, real.difference(), real.ratio(), *_shuffled_gain(pool, rounds))

    @property
    def share_left(self) -> float:
        """Share of the gain that is left when edges are shuffled; NaN where there is no gain to lose."""
        if self.shuffled is None or self.unshuffled is None or not self.unshuffled.value > 0:
            return float("nan")
        return self.shuffled.value / self.unshuffled.value


def _shuffled_gain(pool: Pool, rounds: int) -> tuple[Interval | None, Interval | None]:
    """The gain with shuffled edges, and with the real ones on the same events."""
    names = ("shuffled_edges_fusion", f"shuffled_edges_{BASELINE}")
    if any(name not in pool.scores for name in names):
        return None, None
    same = pool.with_scores(*names)
    paired: Paired = graph_gain(same, *names, rounds)
    return paired.difference(), graph_gain(same, "fusion", BASELINE, rounds).difference()


def shuffled_labels(pool: Pool, rounds: int) -> dict[str, Any]:
    """What LightGBM finds after it learned from shuffled labels, and what a score blind within event types finds."""
    rows = np.flatnonzero(np.isfinite(pool.score(_SHUFFLED)))
    events = pool.events
    found = average_precision_interval(
        events.y[rows], pool.score(_SHUFFLED)[rows], events.cluster[rows], rounds=rounds, seed=7
    )
    return {
        "average_precision": asdict(found),
        "prevalence": float(events.y[rows].mean()),
        "blind_by_type": blind_by_type(pool, rows),
    }


def control_checks(gain: GraphGain, labels: Mapping[str, Any], leaks: Mapping[str, Any]) -> list[Check]:
    """The controls as rows of a report.

    Args:
        gain: of the graph.
        labels: of `shuffled_labels`.
        leaks: of `material.write_leak_check`.
    """
    found, blind = labels["average_precision"], labels["blind_by_type"]
    chance = found["value"] <= MOST_OVER_CHANCE * blind or found["low"] <= blind <= found["high"]
    honest = {**leaks["tabular"], **leaks["graph"]}
    planted = leaks["planted"]
    checks = [
        Check(
            "shuffled labels fall to chance",
            f"average precision {found['value']:.4f} ({found['low']:.4f} to {found['high']:.4f})",
            f"at most {MOST_OVER_CHANCE:g} times {blind:.4f}, or that in its interval",
            bool(chance),
            f"prevalence {labels['prevalence']:.4f}; {blind:.4f} is that of a score that knows the event type alone",
        ),
        Check(
            "no feature looks ahead",
            ", ".join(f"{name} in {n} events" for name, n in honest.items()) or "none does",
            f"equal to 1e-9 in the log cut off on {leaks['until']}",
            not honest,
            f"{leaks['events']:,} events",
        ),
        Check(
            "a planted leak is caught",
            ", ".join(f"{name} in {n} events" for name, n in planted.items()) or "not found",
            "found, and nothing beside it",
            len(planted) == 1,
        ),
    ]
    if gain.shuffled is not None:
        left = gain.share_left
        checks.append(
            Check(
                "shuffled edges lose the graph's gain",
                f"{gain.shuffled} of {gain.unshuffled}",
                f"at most {MOST_GAIN_LEFT:.0%} left",
                None if np.isnan(left) else bool(left <= MOST_GAIN_LEFT),
                "no gain to lose" if np.isnan(left) else f"{max(left, 0):.0%} left",
            )
        )
    return checks
