"""What a simulated world is made of: every choice a caller has."""

from __future__ import annotations

import zlib
from datetime import date
from typing import Any, Literal, get_args

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from simulators.ride_hailing.changes import Change

CityName = Literal["tehran", "mashhad", "isfahan"]
Typology = Literal[
    "collusion",
    "multi_accounting",
    "gps_spoofing",
    "account_takeover",
    "stolen_card",
    "wallet_non_payment",
    "off_platform",
    "fare_manipulation",
    "account_rental",
    "refund_abuse",
]

# Index 0 stands for honest in arrays of typology codes.
TYPOLOGIES: tuple[Typology, ...] = get_args(Typology)
# At the default volume and fraud share each leaves room for an incident a day; beyond that, assumed.
_DEFAULT_SHARES: dict[Typology, float] = {
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
}


def _riders(data: dict[str, Any]) -> int:
    return max(150, int(data.get("events_per_day", 0)))


def _drivers(data: dict[str, Any]) -> int:
    return max(45, int(data.get("events_per_day", 0)) // 9)


class WorldSettings(BaseModel):
    """The seed and the size of a world; equal settings give byte-identical files."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int = Field(7, ge=0, description="Every random draw follows from it.")
    days: int = Field(46, ge=1, le=400, description="UTC days simulated; by custom the last one is the live day.")
    first_day: date = Field(date(2026, 1, 3), ge=date(1970, 1, 1), le=date(2100, 1, 1), description="First UTC day.")
    events_per_day: int = Field(4000, ge=300, description="Events a day, on average.")
    cities: tuple[CityName, ...] = Field(
        ("tehran", "mashhad", "isfahan"), min_length=1, description="The cities that the company serves."
    )
    riders: int = Field(default_factory=_riders, ge=100, description="Honest riders; follows events_per_day.")
    drivers: int = Field(default_factory=_drivers, ge=30, description="Drivers; follows events_per_day.")
    fraud_share: float = Field(0.0075, ge=0.0, le=0.2, description="Share of fraud; tiny worlds exceed it.")
    typology_shares: dict[Typology, float] = Field(
        default_factory=lambda: dict(_DEFAULT_SHARES),
        description="Relative share of the fraud events by typology; one that is left out does not occur.",
    )
    regular_pair_share: float = Field(0.35, ge=0.0, le=1.0, description="Commuters who ride with one driver.")
    family_share: float = Field(0.11, ge=0.0, le=0.5, description="Riders in families with one card and phone.")
    dormitory_share: float = Field(0.04, ge=0.0, le=0.4, description="Riders in dormitories with one desk phone.")
    traveller_share: float = Field(0.003, ge=0.0, le=0.2, description="Riders who leave for another city on a day.")
    cheap_phone_share: float = Field(0.15, ge=0.0, le=1.0, description="Phones with bad GPS.")
    resold_share: float = Field(0.3, ge=0.0, le=1.0, description="New phones that another rider has used before.")
    shift_swap_share: float = Field(0.06, ge=0.0, le=1.0, description="Drivers who work another's hours on a day.")
    jamming_share: float = Field(0.2, ge=0.0, le=1.0, description="Days on which GPS is jammed in a city for hours.")
    outage_share: float = Field(0.08, ge=0.0, le=1.0, description="Days on which the banks are down for hours.")
    closure_share: float = Field(0.3, ge=0.0, le=1.0, description="Days on which a district's roads are closed.")
    churn_share: float = Field(0.003, ge=0.0, le=0.1, description="Riders who stop riding for good on a day.")
    late_share: float = Field(0.005, ge=0.0, le=0.2, description="Events sent minutes to hours late.")
    review_share: float = Field(0.01, ge=0.0, le=1.0, description="Random sample that reviewers label.")
    holdout_share: float = Field(0.003, ge=0.0, le=1.0, description="Random trips, never blocked, labelled in a day.")
    reviewer_sensitivity: float = Field(0.9, ge=0.85, le=0.95, description="Share of fraud that a reviewer sees.")
    reviewer_specificity: float = Field(0.996, ge=0.995, le=1.0, description="Share of honest events cleared.")
    changes: tuple[Change, ...] = Field((), description="The planned changes of the world, see changes.py.")

    @field_validator("changes")
    @classmethod
    def _changes_fit_the_world(cls, changes: tuple[Change, ...], info: ValidationInfo) -> tuple[Change, ...]:
        known = {"city": info.data.get("cities", ()), "typology": TYPOLOGIES}
        days = info.data.get("days", 0)
        for n, change in enumerate(changes):
            for name in sorted(known.keys() & change.model_dump().keys()):
                if (value := getattr(change, name)) not in known[name]:
                    raise ValueError(f"changes[{n}].{name}: {value!r} is not one of {', '.join(known[name])}")
            for name, least in (("day", change.day), ("until", getattr(change, "until", 1) - 1)):
                if least >= days:
                    raise ValueError(f"changes[{n}].{name}: outside the world, which has {days} days")
        return changes

    @field_validator("cities")
    @classmethod
    def _each_city_once(cls, cities: tuple[CityName, ...]) -> tuple[CityName, ...]:
        if len(set(cities)) < len(cities):
            raise ValueError("a city is named twice")
        return cities

    @field_validator("typology_shares")
    @classmethod
    def _some_share(cls, shares: dict[Typology, float]) -> dict[Typology, float]:
        if any(not 0 <= share < np.inf for share in shares.values()) or sum(shares.values()) <= 0:
            raise ValueError("shares are finite, none is negative, and one at least is positive")
        return shares

    def fraud_events_per_day(self, typology: Typology) -> float:
        """How many fraud events of the typology a day brings on average."""
        share = self.typology_shares.get(typology, 0.0) / sum(self.typology_shares.values())
        return self.fraud_share * self.events_per_day * share

    def rng(self, purpose: str, day: int = 0) -> np.random.Generator:
        """An independent random stream for one purpose on one day, so that parts do not shift each other."""
        return np.random.default_rng([self.seed, zlib.crc32(purpose.encode()), day])
