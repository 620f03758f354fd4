"""Riders who ride on an empty wallet, or on a card that they know to be empty, and never settle.

Signals: charges tried again and again, over days, while the rider keeps riding.
Honest look-alikes: bank outages, a wallet topped up late.
Base rate: assumed.
Label delay: the debt is written off after a week or more (assumed).
"""

from __future__ import annotations

import numpy as np

from simulators.ride_hailing.abuse.actors import local_riders
from simulators.ride_hailing.abuse.base import Scheme, Staged
from simulators.ride_hailing.geography import Map, leisure_times
from simulators.ride_hailing.population import Population
from simulators.ride_hailing.requests import CARD, WALLET, instrument_of, request
from simulators.ride_hailing.settings import WorldSettings
from simulators.ride_hailing.trips import PAYMENT, REQUEST, Trips, change, mark


class WalletNonPayment(Scheme):
    """Stages rides of ordinary habit whose charge fails."""

    typology = "wallet_non_payment"
    events_per_incident = 2.2
    rings_at_4000_a_day = 7

    def __init__(self, settings: WorldSettings, places: Map, people: Population) -> None:
        super().__init__(settings, places, people)
        self.riders = local_riders(self.spans, settings, people, self.rng("debtors"))[:, 0]

    def stage(self, day: int) -> Staged:
        """The day's rides between the debtors' own places."""
        rng = self.rng("day", day)
        who = self.at_work(day, int(self.counts[day]), rng)
        rider, n = self.riders[who], len(who)
        method = rng.choice([CARD, WALLET], n, p=[0.3, 0.7])
        people = self.people
        given = {
            "method": method,
            "instrument": instrument_of(people, rider, method, people.riders.card[rider]),
            "typology": self.code,
            "ring": self.ring(who),
        }
        ends = people.home(rider, rng), people.favourite(rider, rng.integers(1, 4, n), rng)
        return Staged([request(people, rng, rider, leisure_times(day, n, rng), ends, **given)])

    def alter(self, trips: Trips, day: int) -> Trips:
        """The charge fails at first, and often for hours; the drive itself was honest."""
        rng = self.rng("attempts", day)
        mine = np.flatnonzero(trips.requests.typology == self.code)
        n, ring = len(mine), trips.ring[mine]
        attempts = np.minimum(rng.geometric(0.6, n), 8)
        trips = change(trips, mine, attempt=attempts, retries=rng.choice(3, n, p=[0.6, 0.25, 0.15]), marks=0)
        return mark(trips, mine, self.code, ring, REQUEST, PAYMENT)
