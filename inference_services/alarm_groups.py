"""The groups whose alarms may be made equally frequent, and the score that an alarm is decided on.

`fraud_probability` stays calibrated. The decision compares another score: the same log-odds less an offset for each
group that the event is in, so that honest people of every group are alarmed equally often. Training, evaluation and
the transformer all take it from here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from inference_services.calibration import sigmoid

Vector = NDArray[np.float64]
Names = NDArray[np.object_]
# Log-odds to take off, by division and group.
Offsets = Mapping[str, Mapping[str, float]]

# The divisions that are known when a decision is made. The tier of a phone is not: it is a rank among all phones.
OnlineDivision = Literal["city", "tenure"]

# The group of an event whose group nobody knows; it has no offset.
UNKNOWN_GROUP = "unknown"
# Days since the rider was first seen: new, a first month, a first quarter, established.
TENURE_BANDS = ((7.0, "under 7 days"), (30.0, "7 to 29 days"), (90.0, "30 to 89 days"), (np.inf, "90 days or more"))
_EDGES = np.array([edge for edge, _ in TENURE_BANDS])
_BAND_NAMES = np.array([name for _, name in TENURE_BANDS] + [UNKNOWN_GROUP], object)


def tenure_band(tenure_days: Vector) -> Names:
    """The band of each tenure in days, [n]; NaN is unknown."""
    # NaN sorts behind the last edge, to the unknown.
    return np.asarray(_BAND_NAMES[np.searchsorted(_EDGES, tenure_days, "right")])


def alarm_groups(city: NDArray[Any], tenure_days: Vector) -> dict[str, Names]:
    """The group of each of n events in each division that is known online.

    Args:
        city: of the event, [n].
        tenure_days: of the rider, [n], NaN where the store did not answer.
    """
    return {"city": np.asarray(city, object), "tenure": tenure_band(tenure_days)}


def alarm_offset(offsets: Offsets, groups: Mapping[str, Names], n: int) -> Vector:
    """The log-odds to take off each of n events: the sum over divisions, [n]; a group without an offset adds 0.

    Args:
        offsets: by division and group.
        groups: by division, the group of each event, [n]; a division that is not there adds 0.
        n: number of events.
    """
    total = np.zeros(n)
    for division, of_group in offsets.items():
        if division in groups:
            total += [of_group.get(group, 0.0) for group in groups[division]]
    return total


def alarm_score(probability: Vector, offset: Vector) -> Vector:
    """What thresholds are compared with: the probability [n] with `offset` [n] taken off its log-odds.

    Within [0, 1], and not calibrated. Without an offset it is the probability itself, bit by bit; so is a negative
    one, which says that no model could score.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        moved = sigmoid(np.log(probability) - np.log1p(-probability) - offset)
    return np.where((offset == 0.0) | (probability < 0.0), probability, moved)


def read_offsets(content: Any) -> dict[str, dict[str, float]]:
    """Offsets from a parsed JSON object of divisions and groups.

    Raises:
        ValueError: a division or a tenure band that is not known, or an offset that is no finite number.
        AttributeError, TypeError: it is no object of objects of numbers.
    """
    offsets = {str(name): {str(g): float(v) for g, v in groups.items()} for name, groups in content.items()}
    for division, of_group in offsets.items():
        if division not in get_args(OnlineDivision):
            raise ValueError(f"alarm_offsets of {division!r:.80}: known are {', '.join(get_args(OnlineDivision))}")
        for group, value in of_group.items():
            if not math.isfinite(value):
                raise ValueError(f"the alarm offset of {division} {group!r:.80} is not finite")
    # A band that was renamed would lose its offset, and nobody would notice.
    for band in sorted(set(offsets.get("tenure", ())) - set(_BAND_NAMES[:-1])):
        raise ValueError(f"alarm_offsets of the tenure {band!r:.80}: known are {', '.join(_BAND_NAMES[:-1])}")
    return offsets
