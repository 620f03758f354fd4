"""A driver's account, driven by somebody else: another person, another phone, another shift, another part of town.

Signals: the account works at hours and in places where its owner never did, with a phone of other GPS quality, and
around the clock.
Honest look-alikes: shifts swapped for a day, trips far from the usual zone.
Base rate: assumed. In London 43 drivers made at least 14,000 trips on other drivers' accounts (Transport for London,
decision on Uber's licence, 25 November 2019).
Label delay: audits (a selfie check fails), days to weeks (assumed).
"""

from __future__ import annotations

import numpy as np

from simulators.ride_hailing.abuse.actors import driven_today, local_drivers
from simulators.ride_hailing.abuse.base import Scheme
from simulators.ride_hailing.abuse.rings import active
from simulators.ride_hailing.geography import Map, distance_m, local_hour
from simulators.ride_hailing.population import Population
from simulators.ride_hailing.settings import WorldSettings
from simulators.ride_hailing.trips import OUTCOME, Trips, change, mark

_AT_ONCE = 1  # accounts let on a day, at the default volume


class AccountRental(Scheme):
    """Gives some trips of a day to an account whose owner is off duty."""

    typology = "account_rental"
    events_per_incident = 1.0
    rings_at_4000_a_day = 6

    def __init__(self, settings: WorldSettings, places: Map, people: Population) -> None:
        super().__init__(settings, places, people)
        rng = self.rng("tenants")
        self.drivers = local_drivers(self.spans, people, rng)
        self.city = people.drivers.city[self.drivers]
        self.lat, self.lon = places.scatter(self.city, rng)
        # A tenant's phone is somebody's phone: its quality is drawn from the drivers'.
        self.phone_of = rng.integers(0, len(people.drivers.city), len(self.spans))

    def alter(self, trips: Trips, day: int) -> Trips:
        """The trips with those that tenants drove, near where they live, while the owner was off duty."""
        rng = self.rng("day", day)
        at_once = max(1, round(_AT_ONCE * self.settings.events_per_day / 4000))
        for share, k in zip(*self._shifts(day, at_once, rng), strict=True):
            trips = self._let(trips, int(k), int(share), day, rng)
        return trips

    def _shifts(self, day: int, at_once: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        now = rng.permutation(active(self.spans, day))[:at_once]
        shares = rng.multinomial(int(self.counts[day]), np.full(len(now), 1 / len(now)))
        return shares[shares > 0], now[shares > 0]

    def _let(self, trips: Trips, k: int, n: int, day: int, rng: np.random.Generator) -> Trips:
        """n trips of the day, nearest to the tenant of span k, driven on the account."""
        drivers, account, asked = self.people.drivers, self.drivers[k : k + 1], trips.requests
        off_duty = (local_hour(asked.time) - drivers.shift_today[account]) % 24 > drivers.shift_hours[account]
        usable = driven_today(trips, day) & off_duty & (trips.city == self.city[k]) & (trips.driver != account)
        rows = np.flatnonzero(usable)
        away = distance_m(asked.pickup_lat[rows], asked.pickup_lon[rows], self.lat[k], self.lon[k])
        chosen = rows[np.argsort(away * rng.uniform(1, 4, len(rows)), kind="stable")[:n]]
        before, phone = trips.driver[chosen], self.phone_of[k]
        trips = change(
            trips,
            chosen,
            driver=np.repeat(account, len(chosen)),
            end_accuracy_m=trips.end_accuracy_m[chosen] * drivers.accuracy_m[phone] / drivers.accuracy_m[before],
            jump_m=trips.jump_m[chosen] * drivers.jump_m[phone] / drivers.jump_m[before],
        )
        return mark(trips, chosen, self.code, int(self.ring(k)), OUTCOME)
