"""Accounts of established riders, taken over and ridden on, mostly sold on to people who want a cheap ride.

Signals: a change of phone or password on a strange device, then within hours a ride far from the rider's places,
paid with the rider's own card; one device on the accounts of several strangers.
Honest look-alikes: a new or resold phone and a ride the same day, travellers, hotel desks.
Base rate: assumed. A stolen password opens the victim's Google account in 7 to 25 % of cases, by how it was stolen, and
a phished account is hijacked 400 times as often as others: Thomas et al., "Data Breaches, Phishing, or Malware?", CCS
2017.
Label delay: the victim complains within days, the bank within weeks (assumed; card networks allow 120 days).
"""

from __future__ import annotations

import numpy as np

from simulators.ride_hailing.abuse.base import Scheme, Staged
from simulators.ride_hailing.abuse.devices import spare_phones
from simulators.ride_hailing.accounts import CHANGES, AccountChanges
from simulators.ride_hailing.geography import Ints, Map, leisure_times, move
from simulators.ride_hailing.population import Population
from simulators.ride_hailing.requests import CARD, CASH, WALLET, Requests, chance, instrument_of, request
from simulators.ride_hailing.settings import WorldSettings

_LOGIN = ("phone", "password", "device", "email")


class AccountTakeover(Scheme):
    """Stages the change of an account and the ride that follows; a victim is taken over once."""

    typology = "account_takeover"
    events_per_incident = 3.9
    rings_at_4000_a_day = 7

    def __init__(self, settings: WorldSettings, places: Map, people: Population) -> None:
        super().__init__(settings, places, people)
        rng = self.rng("hijackers")
        self.phones = spare_phones(people, len(self.spans), 2, rng)
        riders = people.riders
        known = np.flatnonzero(riders.signup_time[: settings.riders] < 0)
        # Credentials are stolen from whoever has them; an account without rides is worth as much.
        self._victims = rng.permutation(known)

    def stage(self, day: int) -> Staged:
        """Today's victims: their account changes hands, then somebody else rides."""
        rng = self.rng("day", day)
        n = int(self.counts[day])
        victim, self._victims = self._victims[:n], np.roll(self._victims, -n)
        who = self.at_work(day, n, rng)
        # A third of the hijackers work from the rider's own session: a stolen token, no new phone.
        column = rng.integers(0, self.phones.shape[1], n)
        own = self.people.riders.device[victim]
        device = np.where(chance(0.65, n, rng), self.phones[who, column], own)
        taken = leisure_times(day, n, rng)
        change = rng.choice([CHANGES.index(name) for name in _LOGIN], n, p=[0.2, 0.4, 0.3, 0.1])
        shown = chance(0.75, n, rng)
        typology, ring = np.full(n, self.code), self.ring(who)
        changes = AccountChanges(taken, victim, device, change, typology, ring)
        rides = [self._ride(victim, device, taken + 300 + rng.lognormal(7.5, 1.0, n), ring, rng)]
        again = chance(0.15, n, rng)
        later = taken[again] + rng.uniform(3 * 3600, 9 * 3600, int(again.sum()))
        rides.append(self._ride(victim[again], device[again], later, ring[again], rng))
        return Staged(rides, [changes.where(shown)])

    def _ride(self, victim: Ints, device: Ints, time: np.ndarray, ring: Ints, rng: np.random.Generator) -> Requests:
        n, riders = len(victim), self.people.riders
        pickup = self.places.scatter(riders.city[victim], rng)
        dropoff = move(*pickup, rng.lognormal(np.log(4000), 0.6, n), rng)
        method = rng.choice([CASH, CARD, WALLET], n, p=[0.15, 0.5, 0.35])
        card = instrument_of(self.people, victim, method, riders.card[victim])
        ends = pickup, dropoff
        given = {"device": device, "method": method, "instrument": card, "typology": self.code, "ring": ring}
        return request(self.people, rng, victim, time, ends, **given)
