"""Offsets that make honest people of every group equally likely to be alarmed.

Hardt, Price and Srebro, "Equality of opportunity in supervised learning", 2016: a fitted score is made fair by a
threshold for each group. Here each group has its own threshold through an offset that is taken off the log-odds, so
that one set of thresholds serves all, and of the two conditions of equalised odds only the false positive rate is met:
a random choice between two thresholds, which would meet both, is nothing to do to a customer. The probability itself
stays as it is: where groups differ in how much fraud they commit, no calibrated score has equal false positive rates
(Kleinberg, Mullainathan and Raghavan, "Inherent trade-offs in the fair determination of risk scores", 2016).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from inference_services.alarm_groups import TENURE_BANDS, UNKNOWN_GROUP, alarm_offset

Vector = NDArray[np.float64]
Names = NDArray[np.object_]

# The share of honest events at which the rates are made equal; the fairness table is taken at the same.
ALARM_RATE = 0.05
# Honest events from which on a group has its whole offset; with fewer it has their share of it. At 5 % these are 25
# alarms, so the rate is known to a fifth.
ENOUGH_HONEST = 500
_ROUNDS = 200
_TOLERANCE = 1e-6


def fit_alarm_offsets(
    probability: Vector,
    y: Vector,
    groups: Mapping[str, Names],
    divisions: Sequence[str],
    *,
    rate: float = ALARM_RATE,
    enough: int = ENOUGH_HONEST,
) -> dict[str, dict[str, float]]:
    """Additive offsets by division and group, fitted by matching quantiles of one division after the other.

    Every honest group's quantile at 1 - rate, less its offsets, comes to lie at that of all honest events, so the share
    of all honest events that is alarmed at that threshold stays what it was. The unknown have no offset. A band of
    tenure that has no honest event yet gets that of the next younger one, or else the next older: in a young company
    riders grow into it while the model serves.

    Args:
        probability: calibrated, [n], of events that the model did not learn from.
        y: 1.0 fraud, 0.0 honest, [n].
        groups: by division, the group of each event, [n].
        divisions: which to equalise; others have no offsets.
        rate: share of the honest events.
        enough: honest events from which on a group is not shrunk towards 0.
    """
    honest = np.clip(probability[y == 0], 1e-15, 1 - 1e-15)
    if not divisions or not len(honest):
        return {}
    odds = np.log(honest) - np.log1p(-honest)
    groups = {name: groups[name][y == 0] for name in divisions}
    rows = {
        name: {str(g): np.flatnonzero(of == g) for g in sorted(set(of.tolist()) - {UNKNOWN_GROUP})}
        for name, of in groups.items()
    }
    threshold = float(np.quantile(odds, 1 - rate))
    offsets: dict[str, dict[str, float]] = {name: dict.fromkeys(of, 0.0) for name, of in rows.items()}
    for _ in range(_ROUNDS):
        before = alarm_offset(offsets, groups, len(odds))
        for name in divisions:
            others = {other: of for other, of in offsets.items() if other != name}
            rest = odds - alarm_offset(others, groups, len(odds))
            offsets[name] = {
                group: min(1.0, len(of) / enough) * (float(np.quantile(rest[of], 1 - rate)) - threshold)
                for group, of in rows[name].items()
            }
        if np.abs(alarm_offset(offsets, groups, len(odds)) - before).max() < _TOLERANCE:
            break
    if "tenure" in offsets:
        offsets["tenure"] = _every_band(offsets["tenure"])
    return offsets


def _every_band(found: Mapping[str, float]) -> dict[str, float]:
    """The offset of each band of tenure; none where none was found."""
    names = [name for _, name in TENURE_BANDS]
    if not found:
        return {}
    nearest = {
        place: min((k for k, name in enumerate(names) if name in found), key=lambda k: (k > place, abs(k - place)))
        for place in range(len(names))
    }
    return {names[place]: found[names[of]] for place, of in nearest.items()}
