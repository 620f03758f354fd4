"""Long-hauling: a driver takes the long way round and is paid by the kilometre.

Signals: billed route much longer than planned, with a clock that fits; again and again by the same driver, rather
with riders who do not know the way.
Honest look-alikes: road closures, a second stop, traffic, jammed GPS.
Base rate: assumed. An audit found potential long hauls in 22.5 % of taxi rides to or from the Las Vegas airport (Nevada
Legislative Auditor, LA14-04 on the Taxicab Authority, 2013); that far fewer pay where a fare is quoted in advance, as
here, is assumed.
Label delay: complaints and audits, days (assumed).
"""

from __future__ import annotations

from simulators.ride_hailing.abuse.actors import driven_today, local_drivers
from simulators.ride_hailing.abuse.base import Scheme
from simulators.ride_hailing.geography import Map
from simulators.ride_hailing.population import Population
from simulators.ride_hailing.settings import WorldSettings
from simulators.ride_hailing.trips import OUTCOME, PAYMENT, Trips, change, mark, price


class FareManipulation(Scheme):
    """Lengthens completed trips; the car was really there, so the GPS is as good as ever."""

    typology = "fare_manipulation"
    events_per_incident = 1.65
    rings_at_4000_a_day = 8

    def __init__(self, settings: WorldSettings, places: Map, people: Population) -> None:
        super().__init__(settings, places, people)
        self.drivers = local_drivers(self.spans, people, self.rng("drivers"))

    def alter(self, trips: Trips, day: int) -> Trips:
        """The trips with the day's long hauls."""
        rng = self.rng("day", day)
        usable = driven_today(trips, day) & (trips.billed_distance_m < 1.15 * trips.distance_m)
        chosen, ring = self.opportunities(trips.driver, self.drivers, usable, day, rng)
        n = len(chosen)
        factor = rng.uniform(1.25, 1.75, n)
        distance = trips.billed_distance_m[chosen] * factor
        # The long way is the fast road as often as not.
        duration = trips.billed_duration_s[chosen] * factor * rng.uniform(0.8, 1.0, n)
        trips = change(
            trips,
            chosen,
            billed_distance_m=distance,
            billed_duration_s=duration,
            billed_fare=price(self.places, trips.city[chosen], distance, duration, trips.surge[chosen]),
            ended=trips.ended[chosen] + duration - trips.billed_duration_s[chosen],
        )
        return mark(trips, chosen, self.code, ring, OUTCOME, PAYMENT)
