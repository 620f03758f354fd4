"""Frozen worlds: settings under a name that never means anything else.

Figures of models can be compared only on the same world. A change, however small, is a new version beside the old one.
Every setting is written out, so that a default can change without changing a frozen world. What each gave is in
world_records.py.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date

from simulators.ride_hailing.changes import ConceptDrift, Holiday, Jamming, LabelShift, NewTypology
from simulators.ride_hailing.errors import SimulationError
from simulators.ride_hailing.settings import WorldSettings


def world_v1(seed: int) -> WorldSettings:
    """Eighteen weeks from a Saturday on: eight of history without a planned change, then one change at a time.

    The summer has no holiday of its own (see calendar.py), so that each change stands alone. 4,000 events a day is the
    least that brings an incident of every typology every day: wallet_non_payment has 1.02 on average. The holdout is
    larger than by default, or it would see one fraud a fortnight and concept drift would show nowhere.
    """
    return WorldSettings(
        seed=seed,
        days=126,
        first_day=date(2026, 6, 6),
        events_per_day=4000,
        cities=("tehran", "mashhad", "isfahan"),
        riders=4000,
        drivers=444,
        fraud_share=0.0075,
        typology_shares={
            "collusion": 0.18,
            "multi_accounting": 0.165,
            "gps_spoofing": 0.08,
            "account_takeover": 0.14,
            "stolen_card": 0.11,
            "wallet_non_payment": 0.075,
            "off_platform": 0.08,
            "fare_manipulation": 0.07,
            "account_rental": 0.06,
            "refund_abuse": 0.04,
        },
        regular_pair_share=0.35,
        family_share=0.11,
        dormitory_share=0.04,
        traveller_share=0.003,
        cheap_phone_share=0.15,
        resold_share=0.3,
        shift_swap_share=0.06,
        jamming_share=0.2,
        outage_share=0.08,
        closure_share=0.3,
        churn_share=0.003,
        late_share=0.005,
        review_share=0.01,
        holdout_share=0.02,
        reviewer_sensitivity=0.9,
        reviewer_specificity=0.996,
        changes=(
            Jamming(day=56, until=63, city="tehran"),
            Holiday(day=65, until=69),
            LabelShift(day=70, until=84, typology="account_takeover", factor=2.5),
            ConceptDrift(day=84, typology="collusion"),
            ConceptDrift(day=84, typology="gps_spoofing"),
            ConceptDrift(day=98, typology="collusion"),
            ConceptDrift(day=98, typology="gps_spoofing"),
            NewTypology(day=105, typology="fare_manipulation"),
        ),
    )


WORLDS: dict[str, Callable[[int], WorldSettings]] = {"world-v1": world_v1}


def world_settings(name: str, seed: int) -> WorldSettings:
    """The settings of a frozen world.

    Raises:
        SimulationError: there is no such world; the message lists those there are.
    """
    if name not in WORLDS:
        raise SimulationError(f"no world {name!r}: there is {', '.join(WORLDS)}")
    return WORLDS[name](seed)
