"""Trips called off in the app and driven for cash, so that the platform gets nothing.

Signals: a driver whose riders cancel minutes after he has arrived, on routes worth the trouble, and who is next free
where the rider wanted to go.
Honest look-alikes: riders who change their mind, drivers stuck in traffic, bad GPS at the pickup.
Base rate: assumed, and far from known: Gu and Zhu, "Trust and Disintermediation: Evidence from an Online Freelance
Marketplace", Management Science 67(2), 2021, needed a randomised trial to see it.
Label delay: mostly none; an audit now and then (assumed). The cancellation itself is not scored.
"""

from __future__ import annotations

import numpy as np

from simulators.ride_hailing.abuse.actors import driven_today, local_drivers
from simulators.ride_hailing.abuse.base import Scheme
from simulators.ride_hailing.geography import Map
from simulators.ride_hailing.population import Population
from simulators.ride_hailing.settings import WorldSettings
from simulators.ride_hailing.trips import CANCELLED_BY, OUTCOME, REQUEST, Trips, change, mark

_WORTH_IT_M = 2500


class OffPlatform(Scheme):
    """Calls off trips that were matched, in agreement of rider and driver; the driver stays busy all the same."""

    typology = "off_platform"
    events_per_incident = 2.0
    rings_at_4000_a_day = 8

    def __init__(self, settings: WorldSettings, places: Map, people: Population) -> None:
        super().__init__(settings, places, people)
        self.drivers = local_drivers(self.spans, people, self.rng("drivers"))

    def alter(self, trips: Trips, day: int) -> Trips:
        """The trips with the day's deals."""
        rng = self.rng("day", day)
        usable = driven_today(trips, day) & (trips.distance_m > _WORTH_IT_M)
        chosen, ring = self.opportunities(trips.driver, self.drivers, usable, day, rng)
        n = len(chosen)
        who = rng.choice([CANCELLED_BY.index("rider"), CANCELLED_BY.index("driver")], n, p=[0.7, 0.3])
        seconds = np.clip(rng.lognormal(5.3, 0.6, n), 40, 1500)
        trips = change(trips, chosen, cancelled_by=who, seconds_to_cancel=seconds)
        return mark(trips, chosen, self.code, ring, REQUEST, OUTCOME)
