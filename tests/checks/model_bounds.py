"""The bounds of issue 5 on models, each a row; a bound that is missed is reported as missed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from pipelines.prequential.checks import MOST_GAIN_LEFT
from pipelines.prequential.page import SHOWN
from pipelines.prequential.run import Evaluation
from pipelines.report import Row

UPPER = "clean_labels_fusion"
LEAST_OF_UPPER = 0.85
LEAST_RECALL = {"1.0%": 0.55, "5.0%": 0.75}
SLOPES = (0.9, 1.1)
MOST_TOP_ERROR = 0.2
LEAST_GAIN = 1.1
LEAST_OVER_RULES = 1.5
LEAST_OF_ORACLE = 0.5
MOST_GOOD_BLOCKED = 0.001
LEAST_FPR_RATIO = 0.8


def bound_rows(found: Evaluation) -> list[Row]:
    """Every figure of "Must show", with its bound."""
    fusion = found.measures["fusion"]
    return [
        *_against_upper(fusion, found.measures.get(UPPER)),
        *_calibration(fusion),
        *_graph(found),
        *_cost(fusion, found.measures["rules"]),
        *_fairness(fusion),
        *[
            Row(f"control: {c.name}", c.found, "", c.bound, c.passed)
            for c in found.report.checks
            if not c.name.startswith("shuffled edges")
        ],
    ]


def context_rows(found: Evaluation) -> list[Row]:
    """Figures without a bound: what stands beside the others."""
    rows = [Row("events judged", len(found.scores)), Row("fraud among them", int(found.scores["y"].sum()))]
    rows += [Row(f"AP of {m.name}", _text(m.measures["average_precision"], m.measures)) for m in found.report.models]
    weeks = sorted({w.week for w in found.report.weeks})
    for week in weeks:
        values = [w.average_precision for w in found.report.weeks if (w.week, w.model) == (week, SHOWN["fusion"][0])]
        rows.append(Row(f"AP of fusion, week of {week}", math.fsum(values) / len(values)))
    return rows


def _text(value: float, measures: Mapping[str, Any]) -> str:
    around = measures["average_precision_95"]
    return f"{value:.3f} ({around['low']:.3f} to {around['high']:.3f})"


def _against_upper(fusion: Mapping[str, Any], upper: Mapping[str, Any] | None) -> list[Row]:
    rows = []
    if upper is not None:
        share = fusion["average_precision"] / upper["average_precision"]
        bound = f"at least {LEAST_OF_UPPER:.0%} of {upper['average_precision']:.3f}"
        rows.append(Row("fusion AP of the upper bound's", share, "share", bound, share >= LEAST_OF_UPPER))
    for fpr, least in LEAST_RECALL.items():
        value = fusion["recall_at_fpr"][fpr]
        possible = math.nan if upper is None else upper["recall_at_fpr"][fpr]
        # Where clean labels without delay do not reach it either, the world does not hold it.
        excused = value < least and possible < least
        bound = f"at least {least:.0%}"
        if upper is not None:
            bound += f"; the upper bound itself has {possible:.1%}" + (", below that" if possible < least else "")
        rows.append(Row(f"recall at {float(fpr[:-1]):g} % FPR", value, "share", bound, value >= least or excused))
    return rows


def _calibration(fusion: Mapping[str, Any]) -> list[Row]:
    slope, skill, top = (fusion[n] for n in ("calibration_slope", "brier_skill", "top_1%_relative_error"))
    low, high = SLOPES
    return [
        Row(
            "calibration slope",
            slope["value"],
            "",
            f"{low:g} to {high:g} (95 %: {slope['low']:.2f} to {slope['high']:.2f})",
            low <= slope["value"] <= high,
        ),
        Row("Brier skill", skill["value"], "", "above 0", skill["value"] > 0),
        Row(
            "relative error in the top 1 % of scores",
            top["value"],
            "share",
            f"at most {MOST_TOP_ERROR:.0%}",
            top["value"] <= MOST_TOP_ERROR,
        ),
    ]


def _graph(found: Evaluation) -> list[Row]:
    gain = found.gain
    name = "collusion and multi-accounting, fusion over LightGBM with neighbours"
    rows = [
        Row(
            f"{name}: AP {gain.fusion:.3f} over {gain.baseline:.3f}",
            gain.ratio.value,
            "times",
            f"at least {LEAST_GAIN:g}",
            gain.ratio.value >= LEAST_GAIN,
        ),
        Row(f"{name}: difference (95 %)", str(gain.gain), "", "interval above 0", gain.gain.low > 0),
    ]
    if gain.shuffled is not None:
        left = gain.share_left
        word = "no gain to lose" if math.isnan(left) else f"{gain.shuffled} of {gain.unshuffled}: {left:.0%} left"
        rows.append(
            Row("the same with edges shuffled", word, "", f"at most {MOST_GAIN_LEFT:.0%} left", left <= MOST_GAIN_LEFT)
        )
    return rows


def _cost(fusion: Mapping[str, Any], rules: Mapping[str, Any]) -> list[Row]:
    saved, by_rules = fusion["cost_saved_per_day"], rules["cost_saved_per_day"]
    share, blocked = fusion["cost_saved_share"], fusion["good_blocked_share"]
    return [
        Row(
            "cost saved a day",
            round(saved),
            "toman",
            f"at least {LEAST_OVER_RULES:g} times the rules' {by_rules:,.0f}",
            saved > 0 and saved >= LEAST_OVER_RULES * by_rules,
        ),
        Row("cost saved of the oracle's", share, "share", f"at least {LEAST_OF_ORACLE:.0%}", share >= LEAST_OF_ORACLE),
        Row("cost saved of the review oracle's", fusion["cost_saved_share_of_review_oracle"], "share"),
        Row(
            "good events blocked",
            f"{blocked:.4%}",
            "",
            f"at most {MOST_GOOD_BLOCKED:.1%}",
            blocked <= MOST_GOOD_BLOCKED,
        ),
    ]


def _fairness(fusion: Mapping[str, Any]) -> list[Row]:
    rows = []
    for division, of in fusion["fairness"].items():
        ratio = of["ratio"]
        text = f"{ratio['value']:.2f} ({ratio['low']:.2f} to {ratio['high']:.2f})"
        bound = f"interval not below {LEAST_FPR_RATIO:g}"
        rows.append(Row(f"FPR ratio, {division.replace('_', ' ')}", text, "", bound, ratio["high"] >= LEAST_FPR_RATIO))
    return rows
