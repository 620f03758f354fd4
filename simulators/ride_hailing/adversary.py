"""Abusers who learn from being blocked, and from nothing else.

Each typology has tactics: a point in a small box. Once it is blocked it begins to search, week by week, by
simultaneous perturbation (Spall, 1992): it tries a random step up on even days and the same step down on odd days,
and at the end of the week moves towards the arm that was blocked less.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from simulators.ride_hailing.geography import Floats
from simulators.ride_hailing.settings import TYPOLOGIES, WorldSettings

_WEEK = 7
_STEP = 0.2  # of a tactic's range, to each side
_CONVINCING = 0.2  # a difference of the arms' blocked shares that is worth a whole step; less is worth a part of it


@dataclass(frozen=True)
class Tactics:
    """How a typology goes about it; the defaults are those of abusers whom nobody blocks.

    Attributes:
        intensity: share of the planned incidents that are tried.
        boldness: factor on the length, hence the price, of a staged trip.
        pace: factor on the time between the staged trips of one ring.
        night: chance that a ring's day is put off to the night.
    """

    intensity: float = 1.0
    boldness: float = 1.0
    pace: float = 1.0
    night: float = 0.0


NEUTRAL = Tactics()
# A ring rides minutes after its own sign-ups: its trips can be put off, but not brought forward.
_LOW = np.array([0.4, 0.6, 1.0, 0.0])
_HIGH = np.array([1.0, 1.5, 6.0, 0.6])


@dataclass(frozen=True)
class Feedback:
    """What the abusers of one typology saw of a day: scored events they caused, and how many were blocked."""

    tried: int
    blocked: int


@dataclass(frozen=True)
class Search:
    """Where one typology stands.

    Attributes:
        centre: the tactics that it believes in, as an array.
        step: what this week adds on even days and takes off on odd ones; all zero before the first block.
        tried, blocked: this week's counts on even and on odd days.
    """

    centre: Floats = field(default_factory=lambda: _array(NEUTRAL))
    step: Floats = field(default_factory=lambda: np.zeros(4))
    tried: tuple[int, int] = (0, 0)
    blocked: tuple[int, int] = (0, 0)

    def tactics(self, day: int) -> Tactics:
        """The tactics tried on the day."""
        sign = 1 if day % 2 == 0 else -1
        return Tactics(*(float(x) for x in np.clip(self.centre + sign * self.step, _LOW, _HIGH)))


def observe(search: Search, day: int, seen: Feedback) -> Search:
    """The search with a day's feedback in its counts."""
    even = int(day % 2 == 0)
    tried = (search.tried[0] + even * seen.tried, search.tried[1] + (1 - even) * seen.tried)
    blocked = (search.blocked[0] + even * seen.blocked, search.blocked[1] + (1 - even) * seen.blocked)
    return replace(search, tried=tried, blocked=blocked)


def update(search: Search, rng: np.random.Generator) -> Search:
    """The search after a week: the centre moved towards the arm that was blocked less, and a new step to try.

    Without any block it stays as it is: there is nothing to learn from.
    """
    if sum(search.blocked) == 0:
        return replace(search, tried=(0, 0))
    even, odd = (b / max(t, 1) for b, t in zip(search.blocked, search.tried, strict=True))
    centre = np.clip(search.centre + np.clip((odd - even) / _CONVINCING, -1, 1) * search.step, _LOW, _HIGH)
    step = _STEP * (_HIGH - _LOW) * rng.choice([-1.0, 1.0], len(centre))
    return Search(centre=centre, step=step)


class Adversary:
    """The searches of all typologies of one world."""

    def __init__(self, settings: WorldSettings) -> None:
        self._settings = settings
        self._searches: dict[str, Search] = {name: Search() for name in TYPOLOGIES}

    def tactics(self, typology: str, day: int) -> Tactics:
        """What the typology tries on the day."""
        return self._searches[typology].tactics(day)

    def intensity(self, typology: str, day: int) -> float:
        """Share of the planned incidents that are tried."""
        return self.tactics(typology, day).intensity

    def boldness(self, typology: str, day: int) -> float:
        """Factor on the length of a staged trip."""
        return self.tactics(typology, day).boldness

    def learn(self, day: int, seen: Mapping[str, Feedback]) -> None:
        """Takes in what was seen of day `day`, and changes tactics at the end of each week."""
        for name, feedback in seen.items():
            self._searches[name] = observe(self._searches[name], day, feedback)
        if day % _WEEK == _WEEK - 1:
            rng = self._settings.rng("adversary", day)
            self._searches = {name: update(search, rng) for name, search in self._searches.items()}


def _array(tactics: Tactics) -> Floats:
    return np.array([tactics.intensity, tactics.boldness, tactics.pace, tactics.night])
