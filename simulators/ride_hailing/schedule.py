"""Answers, for a day of the world, what the planned changes come to."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from simulators.ride_hailing.changes import ConceptDrift, Holiday, Jamming, LabelShift, NewTypology

if TYPE_CHECKING:
    from simulators.ride_hailing.settings import WorldSettings


class Schedule:
    """The planned changes of one world. With none, every answer is the neutral one."""

    def __init__(self, settings: WorldSettings) -> None:
        self._changes = settings.changes

    def rate(self, typology: str, day: int) -> float:
        """Factor on the typology's incidents of the day: 0 before a new typology's first day, usually 1."""
        if any(isinstance(c, NewTypology) and c.typology == typology and day < c.day for c in self._changes):
            return 0.0
        shifts = (c for c in self._changes if isinstance(c, LabelShift) and c.typology == typology)
        return math.prod((c.factor for c in shifts if c.day <= day < c.until), start=1.0)

    def behaviour(self, typology: str, day: int) -> int:
        """How many times the typology has changed its ways by the day."""
        return sum(isinstance(c, ConceptDrift) and c.typology == typology and c.day <= day for c in self._changes)

    def jamming(self, city: str, day: int) -> bool:
        """Whether the day belongs to a planned period of jamming in the city."""
        return any(isinstance(c, Jamming) and c.city == city and c.day <= day < c.until for c in self._changes)

    def holiday(self, day: int) -> bool:
        """Whether everybody rests on the day."""
        return any(isinstance(c, Holiday) and c.day <= day < c.until for c in self._changes)
