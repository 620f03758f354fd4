"""Riders who claim their money back for trips that were as they should be.

Signals: claims again and again by one rider, for the whole bill, soon after the end, with no detour to show for it.
Honest look-alikes: trips that went wrong: detours, closures, jammed GPS, a bag left behind.
Base rate: assumed. Retailers put fraud at 13.7 % of the value of returns in 2023 (National Retail Federation and
Appriss Retail, December 2023).
Label delay: a review of the claim, days (assumed).
"""

from __future__ import annotations

import numpy as np

from simulators.ride_hailing.abuse.actors import driven_today, local_riders
from simulators.ride_hailing.abuse.base import Scheme
from simulators.ride_hailing.geography import DAY_S, Map
from simulators.ride_hailing.population import Population
from simulators.ride_hailing.settings import WorldSettings
from simulators.ride_hailing.trips import CLAIM, Trips, change, mark

_LEAST_S, _MOST_S = 300.0, 8 * 3600.0


class RefundAbuse(Scheme):
    """Adds claims to honest trips, before the day is over."""

    typology = "refund_abuse"
    events_per_incident = 1.0
    rings_at_4000_a_day = 14

    def __init__(self, settings: WorldSettings, places: Map, people: Population) -> None:
        super().__init__(settings, places, people)
        self.riders = local_riders(self.spans, settings, people, self.rng("claimants"))[:, 0]

    def alter(self, trips: Trips, day: int) -> Trips:
        """The trips with the day's claims."""
        rng = self.rng("day", day)
        left = (day + 1) * DAY_S - trips.ended
        usable = driven_today(trips, day) & ~trips.claimed & (left > 2 * _LEAST_S)
        chosen, ring = self.opportunities(trips.requests.rider, self.riders, usable, day, rng)
        n = len(chosen)
        latest = np.minimum(left[chosen], _MOST_S)
        share = np.where(rng.random(n) < 0.5, 1.0, rng.uniform(0.3, 0.9, n))
        trips = change(
            trips,
            chosen,
            claimed=True,
            claim_after_s=_LEAST_S + (latest - _LEAST_S) * rng.beta(1, 2, n),
            claim_share=share,
        )
        return mark(trips, chosen, self.code, ring, CLAIM)
