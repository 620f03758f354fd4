"""Which bounds an evaluation breaks.

A point bound fails on the value. A bound with an interval fails only where the whole interval lies beyond it: too
little data to tell is no fault of the model. Against the champion both hold: the value may not fall short by more than
a margin, and the interval must rule out a loss that would matter.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from components.errors import GateFailed
from components.gate.settings import GateSettings

__all__ = ["GateSettings", "broken_bounds", "check"]

# While one predictor canaries, the champion's other one answers beside it: those pairs are held to its measure too.
_ANSWERING = ("challenger", "lightgbm_canary", "gnn_canary")


def broken_bounds(evaluation: Mapping[str, Any], settings: GateSettings) -> list[str]:
    """Every bound held that an evaluation breaks, in words with both numbers; empty when it may pass.

    A measure that is missing or has no answer breaks its bound, except a fairness ratio of fewer than two groups.
    """
    challenger = evaluation["pairs"]["challenger"]
    broken = [
        *_lift(evaluation, settings),
        *_champion(evaluation["pairs"], settings),
        *_calibration(challenger, settings),
        *_fairness(challenger, settings),
        *_latency(evaluation, settings),
    ]
    return [line for line in broken if line.split(":")[0] not in settings.not_held]


def check(evaluation: Mapping[str, Any], settings: GateSettings) -> None:
    """Lets an evaluation pass.

    Raises:
        GateFailed: with every broken bound.
    """
    broken = broken_bounds(evaluation, settings)
    if broken:
        raise GateFailed("the gate is closed, nothing is registered: " + "; ".join(broken))


def _lift(evaluation: Mapping[str, Any], settings: GateSettings) -> Iterator[str]:
    precision = _number(evaluation["pairs"]["challenger"], "average_precision")
    floor = settings.least_lift * evaluation["prevalence"]
    # `not >=` rather than `<`, here and below, so that NaN breaks the bound.
    if not precision >= floor:
        yield (
            f"least_lift: average precision {precision:.4f} is below {settings.least_lift:g} times the prevalence "
            f"({floor:.4f})"
        )


def _champion(pairs: Mapping[str, Any], settings: GateSettings) -> Iterator[str]:
    if "champion" not in pairs:
        return
    for name in _ANSWERING:
        found = pairs[name].get("minus_champion", {}).get("average_precision", {})
        value, low = _number(found, "value"), _number(found, "low")
        if not value >= -settings.champion_margin:
            yield (
                f"champion_margin: the pair {name!r} has an average precision {value:+.4f} from the champion's "
                f"{_number(pairs['champion'], 'average_precision'):.4f}; {-settings.champion_margin:+g} is the least"
            )
        if not low >= -settings.champion_doubt:
            yield (
                f"champion_doubt: the average precision of the pair {name!r} may be as far as {low:+.4f} from the "
                f"champion's (lower end of the paired interval); {-settings.champion_doubt:+g} is the least"
            )


def _calibration(challenger: Mapping[str, Any], settings: GateSettings) -> Iterator[str]:
    error = _number(challenger, "calibration_error")
    if not error <= settings.most_calibration_error:
        yield (
            f"most_calibration_error: calibration error {error:.4f} is not within {settings.most_calibration_error:g}"
        )
    slope = challenger.get("calibration_slope", {})
    if not _number(slope, "high") >= settings.least_calibration_slope:
        yield f"least_calibration_slope: {_shown(slope)} lies below {settings.least_calibration_slope:g}"
    if not _number(slope, "low") <= settings.most_calibration_slope:
        yield f"most_calibration_slope: {_shown(slope)} lies above {settings.most_calibration_slope:g}"
    top = challenger.get("top_1%_relative_error", {})
    if not _number(top, "low") <= settings.most_top_error:
        yield f"most_top_error: relative error in the top 1 % {_shown(top)} lies above {settings.most_top_error:g}"


def _fairness(challenger: Mapping[str, Any], settings: GateSettings) -> Iterator[str]:
    measured = challenger.get("fairness", {})
    for division in settings.fairness_divisions:
        if (found := measured.get(division)) is None:
            yield (
                f"least_fpr_ratio: the false positive rates by {division} were not measured, their ratio must reach "
                f"{settings.least_fpr_ratio:g}"
            )
            continue
        compared = [name for name, group in found["groups"].items() if group["compared"]]
        if len(compared) < 2:
            continue
        if not _number(found["ratio"], "high") >= settings.least_fpr_ratio:
            yield (
                f"least_fpr_ratio: false positive rate ratio across {division} {_shown(found['ratio'])} lies below "
                f"{settings.least_fpr_ratio:g}"
            )


def _latency(evaluation: Mapping[str, Any], settings: GateSettings) -> Iterator[str]:
    found = evaluation.get("latency_ms", {})
    for name, most in (("lightgbm", settings.most_lightgbm_ms), ("gnn", settings.most_gnn_ms)):
        took = _number(found, name)
        if not took <= most:
            yield f"most_{name}_ms: one event takes {took:.2f} ms, at most {most:g} ms are allowed"


def _number(found: Mapping[str, Any], name: str) -> float:
    """The number, NaN where it is missing or null (JSON has no NaN) or not finite."""
    value = found.get(name)
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else float("nan")


def _shown(found: Mapping[str, Any]) -> str:
    value, low, high = (_number(found, name) for name in ("value", "low", "high"))
    return f"{value:.3f} (interval {low:.3f} to {high:.3f})"
