"""What every way to cheat has in common: a schedule, rings with their days in business, and two chances a day."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from simulators.ride_hailing.abuse.rings import active, incidents_per_day, ring_spans
from simulators.ride_hailing.accounts import AccountChanges
from simulators.ride_hailing.geography import Ints, Map, Mask
from simulators.ride_hailing.population import Population
from simulators.ride_hailing.requests import Requests
from simulators.ride_hailing.settings import TYPOLOGIES, Typology, WorldSettings
from simulators.ride_hailing.trips import Trips


@dataclass(frozen=True)
class Staged:
    """What a scheme adds to a day before it is driven: trips asked for and changes of accounts."""

    requests: list[Requests] = field(default_factory=list)
    changes: list[AccountChanges] = field(default_factory=list)


class Scheme:
    """One typology in one world. A subclass stages the day, alters what was driven, or both.

    The budget: `spans` are the days on which each ring is in business, `counts` how many incidents the day has in
    all. Outside of these the members live like anybody.

    Attributes:
        typology: its name.
        events_per_incident: fraud events that an incident leads to, measured on the default world.
        rings_at_4000_a_day: rings (or single cheats) in 46 days of the default volume.
    """

    typology: ClassVar[Typology]
    events_per_incident: ClassVar[float]
    rings_at_4000_a_day: ClassVar[int]

    def __init__(self, settings: WorldSettings, places: Map, people: Population) -> None:
        self.settings, self.places, self.people = settings, places, people
        self.code = TYPOLOGIES.index(self.typology) + 1
        self.counts = self.incidents(settings)
        self.spans = ring_spans(settings, places, self.typology, self.rings_at_4000_a_day)

    @classmethod
    def incidents(cls, settings: WorldSettings) -> Ints:
        """Incidents of each day, shape [days]."""
        return incidents_per_day(settings, cls.typology, cls.events_per_incident)

    @classmethod
    def reserve(cls, settings: WorldSettings) -> int:
        """How many accounts it will open in this world; they are prepared with the population."""
        return 0

    def stage(self, day: int) -> Staged:
        """What it adds to the day before anything is driven."""
        return Staged()

    def alter(self, trips: Trips, day: int) -> Trips:
        """The day's trips with its own among them; honest ones may be tampered with."""
        return trips

    def rng(self, purpose: str, day: int = 0) -> np.random.Generator:
        """Chance of this typology only."""
        return self.settings.rng(f"{self.typology} {purpose}", day)

    def ring(self, position: Ints | int) -> Ints:
        """Ring numbers of positions in `spans`."""
        numbers: Ints = np.array([span.ring for span in self.spans])[position]
        return numbers

    def at_work(self, day: int, n: int, rng: np.random.Generator) -> Ints:
        """Positions in `spans` of who commits the n incidents of the day, spread evenly, shape [n]."""
        now = rng.permutation(active(self.spans, day))
        result: Ints = np.resize(now, n)
        return result

    def opportunities(
        self, actor_of: Ints, actors: Ints, usable: Mask, day: int, rng: np.random.Generator
    ) -> tuple[Ints, Ints]:
        """Trips to tamper with today: those of cheats at work first, then those of people who do it once.

        Args:
            actor_of: who could cheat on each trip (its driver, or its rider), shape [n].
            actors: the cheat of each span, shape [len(spans)].
            usable: the trips that suit, shape [n].
            day: the day.
            rng: where chance comes from.

        Returns:
            Positions of the trips and the ring behind each (-1: none), shape [at most counts[day]] each.
        """
        now = np.array(active(self.spans, day))
        ring_of = np.full(max(int(actor_of.max(initial=0)), int(actors.max())) + 1, -1)
        ring_of[actors[now]] = self.ring(now)
        rows = rng.permutation(np.flatnonzero(usable))
        ring = ring_of[actor_of[rows]]
        order = np.argsort(ring < 0, kind="stable")[: int(self.counts[day])]
        return rows[order], ring[order]
