"""How each typology comes to light: who finds it, how late, and how often never.

A public source states the outer limit of a dispute only; means, cuts and miss rates are assumed throughout,
in the order that follows from who is harmed: a robbed customer complains, an idle accomplice does not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from simulators.ride_hailing.geography import DAY_S, Floats, Ints
from simulators.ride_hailing.settings import TYPOLOGIES

_ASSUMED = "assumed"
_DISPUTES = (
    "Visa Core Rules, dispute condition 10.4: a cardholder's bank has 120 days from processing to dispute a "
    "card-absent fraud; mean, cut and miss rate assumed"
)
_MIN_DELAY_S = 2 * 3600.0


@dataclass(frozen=True)
class LabelBehaviour:
    """How one typology is found without being looked for.

    Attributes:
        source: a bank's chargeback, or the company's own audit.
        mean_delay_days, longest_delay_days: of a gamma distribution of shape `delay_shape` from being sent to being
            found, cut at the longest.
        delay_shape: 1 is exponential; more means that nothing is found at once (a statement comes once a month).
        miss_rate: share of the events that nobody ever finds.
        evidence: where the figures come from.
    """

    source: Literal["chargeback", "audit"]
    mean_delay_days: float
    longest_delay_days: float
    miss_rate: float
    delay_shape: float = 1.0
    evidence: str = _ASSUMED


BEHAVIOUR: dict[str, LabelBehaviour] = {
    "collusion": LabelBehaviour("audit", 3.0, 9, 0.12),
    "multi_accounting": LabelBehaviour("audit", 2.0, 9, 0.08),
    "gps_spoofing": LabelBehaviour("audit", 2.5, 9, 0.10),
    "account_takeover": LabelBehaviour("chargeback", 3.0, 14, 0.10, evidence=_DISPUTES),
    "stolen_card": LabelBehaviour("chargeback", 12.0, 60, 0.15, delay_shape=2.0, evidence=_DISPUTES),
    "wallet_non_payment": LabelBehaviour("audit", 4.0, 10, 0.03, delay_shape=4.0),
    "off_platform": LabelBehaviour("audit", 6.0, 20, 0.92),
    "fare_manipulation": LabelBehaviour("audit", 2.0, 9, 0.30),
    "account_rental": LabelBehaviour("audit", 6.0, 20, 0.50),
    "refund_abuse": LabelBehaviour("audit", 5.0, 14, 0.30),
}
LONGEST_DELAY_DAYS = int(max(b.longest_delay_days for b in BEHAVIOUR.values()))
_BY_CODE = [BEHAVIOUR[name] for name in TYPOLOGIES]


def found(typology: Ints, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, Floats]:
    """Draws what becomes known of frauds without anybody's sampling.

    Args:
        typology: 0 honest, else 1 + index in TYPOLOGIES; shape [n].
        rng: where chance comes from.

    Returns:
        Whether each is found and whether by a chargeback (the rest: by audit), bools of shape [n], and the delay in
        seconds, shape [n]; all meaningless where honest, and never found there.
    """
    n = len(typology)
    index = np.maximum(typology - 1, 0)
    shape, mean, longest, miss = (
        np.array([getattr(b, name) for b in _BY_CODE])[index]
        for name in ("delay_shape", "mean_delay_days", "longest_delay_days", "miss_rate")
    )
    charged = np.array([b.source == "chargeback" for b in _BY_CODE])[index]
    delay = np.clip(rng.gamma(shape) * mean / shape * DAY_S, _MIN_DELAY_S, longest * DAY_S)
    return (typology > 0) & (rng.random(n) >= miss), charged, delay
