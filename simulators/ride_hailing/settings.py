"""What a simulated world is made of: every choice a caller has."""

from __future__ import annotations

import zlib
from datetime import date
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

CityName = Literal["tehran", "mashhad", "isfahan"]
Typology = Literal["collusion", "multi_accounting", "gps_spoofing"]

# Index 0 stands for honest in arrays of typology codes.
TYPOLOGIES: tuple[Typology, ...] = ("collusion", "multi_accounting", "gps_spoofing")


def _riders(data: dict[str, Any]) -> int:
    return max(150, int(data.get("events_per_day", 0)))


def _drivers(data: dict[str, Any]) -> int:
    return max(45, int(data.get("events_per_day", 0)) // 9)


class WorldSettings(BaseModel):
    """The seed and the size of a world; equal settings give byte-identical files."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int = Field(7, ge=0, description="Every random draw follows from it.")
    days: int = Field(46, ge=1, le=400, description="UTC days simulated; by custom the last one is the live day.")
    first_day: date = Field(date(2026, 1, 3), description="First UTC day.")
    events_per_day: int = Field(4000, ge=300, description="Events a day, on average.")
    cities: tuple[CityName, ...] = Field(("tehran", "mashhad", "isfahan"), min_length=1)
    riders: int = Field(default_factory=_riders, ge=100, description="Honest riders; follows events_per_day.")
    drivers: int = Field(default_factory=_drivers, ge=30, description="Drivers; follows events_per_day.")
    fraud_share: float = Field(0.0075, ge=0.0, le=0.009, description="Share of fraud; tiny worlds exceed it.")
    late_share: float = Field(0.005, ge=0.0, le=0.2, description="Events sent minutes to hours late.")
    review_share: float = Field(0.01, ge=0.0, le=1.0, description="Random sample that reviewers label.")
    holdout_share: float = Field(0.003, ge=0.0, le=1.0, description="Random sample labelled with a second opinion.")

    def rng(self, purpose: str, day: int = 0) -> np.random.Generator:
        """An independent random stream for one purpose on one day, so that parts do not shift each other."""
        return np.random.default_rng([self.seed, zlib.crc32(purpose.encode()), day])
