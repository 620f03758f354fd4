"""Drivers who fake their position to be paid for kilometres that nobody drove.

Signals: billed route far longer than planned, too fast for its clock, a radius too good or jumps too long.
Honest look-alikes: jammed cities, cheap phones, tunnels, detours.
Base rate: assumed. Uber closes accounts for fake location apps (uber.com, "Fraud activities"), and Grab meets them
(engineering.grab.com, "Graph networks", 2022); vehicles that exist in software only: Wang et al., "Defending against
Sybil Devices in Crowdsourced Mapping Services", MobiSys 2016.
Label delay: audits, days (assumed).
"""

from __future__ import annotations

import numpy as np

from simulators.ride_hailing.abuse.actors import driven_today, local_drivers
from simulators.ride_hailing.abuse.base import Scheme
from simulators.ride_hailing.geography import Floats, Ints, Map
from simulators.ride_hailing.population import Population
from simulators.ride_hailing.settings import WorldSettings
from simulators.ride_hailing.trips import OUTCOME, PAYMENT, Trips, change, mark, price


class GpsSpoofing(Scheme):
    """Inflates some of the completed trips of drivers who drive honestly otherwise."""

    typology = "gps_spoofing"
    events_per_incident = 1.65
    rings_at_4000_a_day = 9

    def __init__(self, settings: WorldSettings, places: Map, people: Population) -> None:
        super().__init__(settings, places, people)
        self.drivers = local_drivers(self.spans, people, self.rng("drivers"))

    def alter(self, trips: Trips, day: int) -> Trips:
        """The trips with the day's fakes."""
        rng = self.rng("day", day)
        usable = driven_today(trips, day) & (trips.billed_distance_m > 1500)
        chosen, ring = self.opportunities(trips.driver, self.drivers, usable, day, rng)
        trips = mark(trips, chosen, self.code, ring, OUTCOME, PAYMENT)
        return _inflate(self.places, trips, chosen, rng)


def _inflate(places: Map, trips: Trips, chosen: Ints, rng: np.random.Generator) -> Trips:
    n = len(chosen)
    factor = rng.uniform(1.4, 2.1, n)
    # A lazy cheat leaves the clock alone, and the trip comes out too fast; a careful one stretches both.
    lazy = rng.random(n) < 0.5
    distance = trips.billed_distance_m[chosen] * factor
    duration = trips.billed_duration_s[chosen] * np.where(lazy, rng.uniform(0.8, 1.1, n), factor)
    accuracy, jump = _fake_gps(trips.end_accuracy_m[chosen], trips.jump_m[chosen], rng)
    return change(
        trips,
        chosen,
        billed_distance_m=distance,
        billed_duration_s=duration,
        billed_fare=price(places, trips.city[chosen], distance, duration, trips.surge[chosen]),
        end_accuracy_m=accuracy,
        jump_m=jump,
        ended=trips.ended[chosen] + duration - trips.billed_duration_s[chosen],
    )


def _fake_gps(accuracy: Floats, jump: Floats, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Mock-location apps report a suspiciously small radius, and jump where they are switched on."""
    n = len(accuracy)
    mocked = rng.random(n) < 0.55
    jumps = rng.random(n) < 0.55
    return np.where(mocked, rng.uniform(3, 6, n), accuracy), np.where(jumps, jump * rng.lognormal(1.5, 0.6, n), jump)
