"""Rings of riders and drivers who stage short trips with each other for the incentive.

Signals: the same riders and drivers again and again, bursts of short trips, phones and cards that are passed around.
Honest look-alikes: commuters with a regular driver, families, an afternoon's errands.
Base rate: assumed (a fifth of the fraud). Riders and drivers split the incentives of fake rides in China (Isaac, "Super
Pumped", 2019, p. 183); syndicates share devices, and collusion shows in a graph (engineering.grab.com, "Graph for
fraud detection").
Label delay: audits, days (assumed).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from simulators.ride_hailing.abuse.base import Scheme, Staged
from simulators.ride_hailing.abuse.rings import Span, active
from simulators.ride_hailing.geography import Floats, Ints, Map, at_local_hour, move
from simulators.ride_hailing.population import Population
from simulators.ride_hailing.requests import (
    CARD,
    CASH,
    REFERRAL,
    SEASONAL,
    WALLET,
    Requests,
    chance,
    instrument_of,
    request,
)
from simulators.ride_hailing.settings import WorldSettings

_SMALLEST, _LARGEST = 4, 40  # members of a ring, riders and drivers together


@dataclass(frozen=True)
class _Ring:
    span: Span
    riders: Ints
    drivers: Ints
    lat: float
    lon: float

    @property
    def size(self) -> int:
        return len(self.riders) + len(self.drivers)


class Collusion(Scheme):
    """Stages the collusive trips of a world; a large ring stages more of them."""

    typology = "collusion"
    events_per_incident = 2.7
    rings_at_4000_a_day = 5

    def __init__(self, settings: WorldSettings, places: Map, people: Population) -> None:
        super().__init__(settings, places, people)
        rng = self.rng("rings")
        self.rings = [_recruit(span, settings, people, rng) for span in self.spans]

    def stage(self, day: int) -> Staged:
        """A burst of one ring, seldom of two."""
        rng = self.rng("day", day)
        count = int(self.counts[day])
        now = [self.rings[k] for k in active(self.spans, day)]
        weight = np.array([ring.size for ring in now], float)
        largest_burst = max(1, round(3 * self.settings.events_per_day / 4000))
        first = int(rng.binomial(min(count, largest_burst), 0.9)) if count > 1 else count
        chosen = rng.choice(len(now), 2, p=weight / weight.sum())
        sizes = (first, count - first)
        bursts = [
            _burst(now[k], self.people, size, day, rng, code=self.code)
            for k, size in zip(chosen, sizes, strict=True)
            if size
        ]
        return Staged(requests=bursts)


def _recruit(span: Span, settings: WorldSettings, people: Population, rng: np.random.Generator) -> _Ring:
    """Ordinary drivers of one neighbourhood and riders who live around them."""
    drivers, riders = people.drivers, people.riders
    local = np.flatnonzero(drivers.city == span.city)
    if len(local) == 0:
        local = np.arange(len(drivers.city))
    head = int(rng.choice(local))
    crew = _nearest(drivers.zone_lat, drivers.zone_lon, local, head, 16)
    old = np.flatnonzero((riders.city == drivers.city[head]) & (riders.signup_time < 0))
    old = old[old < settings.riders]
    away = np.hypot(riders.home_lat[old] - drivers.zone_lat[head], riders.home_lon[old] - drivers.zone_lon[head])
    # Sizes have a heavy tail: half of the rings have at most seven members, one in sixteen has forty.
    size = int(np.clip(_SMALLEST * (1 - rng.random()) ** (-1 / 1.2), _SMALLEST, _LARGEST))
    n_drivers = min(max(1, round(size / 5)), len(crew))
    nearest = old[np.argsort(away, kind="stable")[: 2 * _LARGEST]]
    members = rng.choice(nearest, min(size - n_drivers, len(nearest)), replace=False)
    partners = rng.choice(crew, n_drivers, replace=False)
    return _Ring(span, members, partners, float(drivers.zone_lat[head]), float(drivers.zone_lon[head]))


def _nearest(lat: Floats, lon: Floats, among: Ints, centre: int, k: int) -> Ints:
    away = np.hypot(lat[among] - lat[centre], lon[among] - lon[centre])
    result: Ints = among[np.argsort(away, kind="stable")[:k]]
    return result


def _burst(ring: _Ring, people: Population, n: int, day: int, rng: np.random.Generator, *, code: int) -> Requests:
    # A core plays most of the trips, or a ring of forty would never meet twice (Zipf's law, assumed).
    in_town = people.riders.city[ring.riders] == ring.span.city
    keen = np.where(in_town if in_town.any() else True, 1 / np.arange(1.0, len(ring.riders) + 1), 0.0)
    member = rng.choice(len(ring.riders), n, p=keen / keen.sum())
    rider = ring.riders[member]
    partner = ring.drivers[member % len(ring.drivers)]
    driver = np.where(chance(0.8, n, rng), partner, rng.choice(ring.drivers, n))
    start = at_local_hour(day, rng.uniform(8, 23, 1))
    time = start + np.cumsum(rng.exponential(1500, n))
    pickup = move(np.full(n, ring.lat), np.full(n, ring.lon), 1500.0, rng)
    dropoff = move(*pickup, rng.lognormal(np.log(2900), 0.75, n), rng)
    # Most of the time the phones and cards of the first two are passed around.
    shared = ring.riders[rng.integers(0, 2, n) % len(ring.riders)]
    device = np.where(chance(0.75, n, rng), people.riders.device[shared], people.riders.device[rider])
    method = rng.choice([CASH, CARD, WALLET], n, p=[0.35, 0.4, 0.25])
    card = people.riders.card[np.where(chance(0.6, n, rng), shared, rider)]
    promo = rng.choice([0, SEASONAL, REFERRAL], n, p=[0.8, 0.12, 0.08])
    return request(
        people,
        rng,
        rider,
        time,
        (pickup, dropoff),
        driver=driver,
        device=device,
        method=method,
        instrument=instrument_of(people, rider, method, card),
        promo=promo,
        typology=code,
        ring=ring.span.ring,
    )
