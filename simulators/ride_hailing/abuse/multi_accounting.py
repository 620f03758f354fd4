"""Device farms: one person signs up account after account and rides on newcomers' promotions and referrals.

Signals: several new accounts on one phone or card, a first ride on a promotion within hours, one neighbourhood.
Honest look-alikes: hotel desks, dormitories, families, phones resold, newcomers in a hurry.
Base rate: assumed. Grab meets syndicates with device farms (engineering.grab.com, "Graph networks", 2022) and names the
abuse of promotions among what it watches for (engineering.grab.com, "Griffin").
Label delay: audits, days (assumed).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from simulators.ride_hailing.abuse.base import Scheme, Staged
from simulators.ride_hailing.abuse.rings import Span, active
from simulators.ride_hailing.accounts import signups
from simulators.ride_hailing.geography import Floats, Ints, Map, at_local_hour, move
from simulators.ride_hailing.population import Population
from simulators.ride_hailing.requests import (
    CARD,
    CASH,
    NO_PROMO,
    REFERRAL,
    SEASONAL,
    WALLET,
    WELCOME,
    Requests,
    chance,
    instrument_of,
    request,
)
from simulators.ride_hailing.settings import WorldSettings


@dataclass(frozen=True)
class _Farm:
    span: Span
    operator: int
    devices: Ints


class MultiAccounting(Scheme):
    """Stages the fake accounts of a world. They are taken from the population's reserve."""

    typology = "multi_accounting"
    events_per_incident = 4.7
    rings_at_4000_a_day = 4

    def __init__(self, settings: WorldSettings, places: Map, people: Population) -> None:
        super().__init__(settings, places, people)
        rng = self.rng("farms")
        self.farms = [_found(span, people, rng) for span in self.spans]
        self._unused = settings.riders + np.arange(self.counts.sum())

    @classmethod
    def reserve(cls, settings: WorldSettings) -> int:
        """One account for each incident."""
        return int(cls.incidents(settings).sum())

    def stage(self, day: int) -> Staged:
        """The day's sign-ups by one farm, and the rides that follow within hours."""
        rng = self.rng("day", day)
        n = int(self.counts[day])
        accounts, self._unused = self._unused[:n], self._unused[n:]
        farm = self.farms[int(rng.choice(active(self.spans, day)))]
        device = rng.choice(farm.devices, n)
        _open(self.people, farm, accounts, device, day, rng=rng)
        changes = signups(self.people, accounts, device, np.full(n, self.code), np.full(n, farm.span.ring))
        return Staged(_first_rides(farm, self.people, accounts, rng, code=self.code), [changes])


def _found(span: Span, people: Population, rng: np.random.Generator) -> _Farm:
    """An ordinary rider with their own phone and a few second-hand ones."""
    riders = people.riders
    old = np.flatnonzero((riders.city == span.city) & (riders.signup_time < 0))
    if len(old) == 0:
        old = np.flatnonzero(riders.signup_time < 0)
    operator = int(rng.choice(old))
    extra = [people.spare_devices.pop() for _ in range(int(rng.integers(1, 3)))]
    return _Farm(span, operator, np.array([riders.device[operator], *extra]))


def _open(people: Population, farm: _Farm, accounts: Ints, device: Ints, day: int, *, rng: np.random.Generator) -> None:
    riders, n = people.riders, len(accounts)
    start = at_local_hour(day, rng.uniform(8, 21, 1))
    riders.signup_time[accounts] = start + np.cumsum(rng.exponential(1800, n))
    riders.city[accounts] = riders.city[farm.operator]
    riders.device[accounts] = riders.shared_device[accounts] = device
    riders.commuter[accounts] = False
    # The accounts are given to relatives and friends in town, who ride honestly later.
    lat, lon = riders.home_lat[farm.operator], riders.home_lon[farm.operator]
    riders.home_lat[accounts], riders.home_lon[accounts] = move(np.full(n, lat), np.full(n, lon), 2500.0, rng)
    riders.place_lat[accounts] = riders.place_lat[farm.operator]
    riders.place_lon[accounts] = riders.place_lon[farm.operator]


def _first_rides(
    farm: _Farm, people: Population, accounts: Ints, rng: np.random.Generator, *, code: int
) -> list[Requests]:
    """A ride on the newcomer's promotion, and for a fifth of the accounts the second that the referrer is paid for."""
    begin = people.riders.signup_time[accounts] + 120.0 + rng.lognormal(7.8, 1.0, len(accounts))
    promo = rng.choice([WELCOME, REFERRAL, SEASONAL, NO_PROMO], len(accounts), p=[0.42, 0.25, 0.18, 0.15])
    again = chance(0.2, len(accounts), rng)
    later = begin[again] + rng.uniform(2400, 9000, int(again.sum()))
    return [
        _rides(farm, people, accounts, begin, promo, rng=rng, code=code),
        _rides(farm, people, accounts[again], later, np.full(len(later), NO_PROMO), rng=rng, code=code),
    ]


def _rides(
    farm: _Farm, people: Population, accounts: Ints, time: Floats, promo: Ints, *, rng: np.random.Generator, code: int
) -> Requests:
    riders, n = people.riders, len(accounts)
    home = move(riders.home_lat[accounts], riders.home_lon[accounts], 200.0, rng)
    column = rng.integers(1, 4, n)
    far = move(riders.place_lat[accounts, column], riders.place_lon[accounts, column], 800.0, rng)
    near, is_near = move(*home, 1800.0, rng), chance(0.45, n, rng)
    away = np.where(is_near, near[0], far[0]), np.where(is_near, near[1], far[1])
    method = rng.choice([CASH, CARD, WALLET], n, p=[0.35, 0.4, 0.25])
    card = np.where(chance(0.6, n, rng), riders.card[farm.operator], riders.card[accounts])
    return request(
        people,
        rng,
        accounts,
        time,
        (home, away),
        device=riders.device[accounts],
        method=method,
        instrument=instrument_of(people, accounts, method, card),
        promo=promo,
        typology=code,
        ring=farm.span.ring,
    )
