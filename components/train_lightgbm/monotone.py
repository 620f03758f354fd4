"""In which direction a feature may move the risk, where the domain says so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase


@dataclass(frozen=True)
class Monotone:
    """What one kind of feature may do.

    Attributes:
        pattern: of feature names, as a shell writes it.
        direction: 1 where more of it cannot lower the risk, -1 where more cannot raise it.
        reason: why.
    """

    pattern: str
    direction: int
    reason: str


# The tenure of riders and drivers is free: a takeover strikes old accounts, and holding it down cost a tenth of the
# average precision (docs/models.md).
CONSTRAINTS = (
    Monotone("*_refunds_*", 1, "another refund never makes a claim more credible"),
    Monotone("*_changes_*", 1, "each change of an account is a step that a takeover needs"),
    Monotone("device_riders_*", 1, "one more account on a device is never reassuring"),
    Monotone("payment_instrument_riders_*", 1, "one more account on a card is never reassuring"),
    Monotone("gps_max_jump_m", 1, "a longer jump between two fixes is further from what a car can do"),
    Monotone("detour_ratio", 1, "a longer way round is never better service"),
    Monotone("attempt", 1, "a card is tried again because it was refused"),
    Monotone("device_tenure_days", -1, "a device known for longer has had longer to be caught"),
    Monotone("payment_instrument_tenure_days", -1, "a card used for longer has had longer to be disputed"),
)


def monotone_directions(features: Sequence[str], constraints: Sequence[Monotone] = CONSTRAINTS) -> list[int]:
    """For each feature 1, -1 or 0 (free), in their order; the first pattern that fits decides."""
    return [next((c.direction for c in constraints if fnmatchcase(name, c.pattern)), 0) for name in features]
