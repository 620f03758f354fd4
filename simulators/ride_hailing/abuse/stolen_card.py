"""Resellers who book cheap rides for strangers and pay with stolen cards.

Signals: a card that another account uses, several cards on one account or phone, failed attempts, pickups all over
town for a rider who lives in one place.
Honest look-alikes: families with one card, rides booked for relatives, hotel desks, bank outages.
Base rate: assumed. For scale, fraud was 0.028 % of the value of payments with cards of the Single Euro Payments Area in
2021 (ECB, Report on card fraud in 2020 and 2021, 2023).
Label delay: chargebacks, weeks (assumed); a bank has 120 days for a dispute (Visa Core Rules, condition 10.4).
"""

from __future__ import annotations

import numpy as np

from simulators.ride_hailing.abuse.actors import local_riders
from simulators.ride_hailing.abuse.base import Scheme, Staged
from simulators.ride_hailing.abuse.devices import spare_phones
from simulators.ride_hailing.geography import Map, leisure_times, move
from simulators.ride_hailing.population import Population
from simulators.ride_hailing.requests import CARD, WALLET, chance, instrument_of, request
from simulators.ride_hailing.settings import WorldSettings
from simulators.ride_hailing.trips import Trips, change

_ACCOUNTS = 3  # of one reseller: the own one and those of two friends
_RIDES_A_CARD = 5


class StolenCard(Scheme):
    """Stages the rides that resellers book."""

    typology = "stolen_card"
    events_per_incident = 3.0
    rings_at_4000_a_day = 4

    def __init__(self, settings: WorldSettings, places: Map, people: Population) -> None:
        super().__init__(settings, places, people)
        rng = self.rng("resellers")
        self.accounts = local_riders(self.spans, settings, people, rng, _ACCOUNTS)
        self.phones = spare_phones(people, len(self.spans), 1, rng)[:, 0]
        # A card is used up after a few rides; then its owner has noticed.
        self._cards = np.repeat(rng.permutation(settings.riders), _RIDES_A_CARD)

    def stage(self, day: int) -> Staged:
        """The day's resold rides."""
        rng = self.rng("day", day)
        n, riders = int(self.counts[day]), self.people.riders
        who = self.at_work(day, n, rng)
        rider = self.accounts[who, rng.integers(0, _ACCOUNTS, n)]
        card, self._cards = riders.card[self._cards[:n]], np.roll(self._cards, -n)
        pickup = self.places.scatter(riders.city[rider], rng)
        dropoff = move(*pickup, rng.lognormal(np.log(4200), 0.6, n), rng)
        device = np.where(chance(0.75, n, rng), self.phones[who], riders.device[rider])
        time = leisure_times(day, n, rng)
        # One ride in five is paid from the account's wallet, topped up with a stolen card out of sight.
        method = rng.choice([CARD, WALLET], n, p=[0.8, 0.2])
        given = {
            "device": device,
            "method": method,
            "instrument": instrument_of(self.people, rider, method, card),
            "typology": self.code,
            "ring": self.ring(who),
        }
        return Staged([request(self.people, rng, rider, time, (pickup, dropoff), **given)])

    def alter(self, trips: Trips, day: int) -> Trips:
        """A stolen card is refused more often than one's own."""
        rng = self.rng("attempts", day)
        mine = np.flatnonzero(trips.requests.typology == self.code)
        return change(trips, mine, attempt=np.minimum(rng.geometric(0.7, len(mine)), 6))
