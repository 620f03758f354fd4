"""Rings of riders and drivers who stage short trips with each other for the incentive."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from simulators.ride_hailing.abuse.rings import Span, active, incidents_per_day, ring_spans
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

_CODE = 1  # index in TYPOLOGIES, plus one


@dataclass(frozen=True)
class _Ring:
    span: Span
    riders: Ints
    drivers: Ints
    lat: float
    lon: float


class Collusion:
    """Stages the collusive trips of a world."""

    def __init__(self, settings: WorldSettings, places: Map, people: Population) -> None:
        rng = settings.rng("collusion rings")
        self._settings = settings
        self._counts = incidents_per_day(settings, "collusion")
        self._spans = ring_spans(settings, places, "collusion")
        self._rings = [_recruit(span, settings, people, rng) for span in self._spans]

    def requests(self, people: Population, day: int) -> list[Requests]:
        """The day's staged requests: a burst of one ring, seldom of two."""
        rng = self._settings.rng("collusion", day)
        count = int(self._counts[day])
        now = active(self._spans, day)
        first = int(rng.binomial(count, 0.9))
        return [
            _burst(self._rings[int(rng.choice(now))], people, size, day, rng) for size in (first, count - first) if size
        ]


def _recruit(span: Span, settings: WorldSettings, people: Population, rng: np.random.Generator) -> _Ring:
    """Ordinary drivers of one neighbourhood and riders who live around them."""
    drivers, riders = people.drivers, people.riders
    local = np.flatnonzero(drivers.city == span.city)
    if len(local) == 0:
        local = np.arange(len(drivers.city))
    head = int(rng.choice(local))
    crew = _nearest(drivers.zone_lat, drivers.zone_lon, local, head, 12)
    old = np.flatnonzero((riders.city == drivers.city[head]) & (riders.signup_time < 0))
    old = old[old < settings.riders]
    away = np.hypot(riders.home_lat[old] - drivers.zone_lat[head], riders.home_lon[old] - drivers.zone_lon[head])
    members = rng.choice(old[np.argsort(away)[:40]], min(int(rng.integers(3, 6)), len(old)), replace=False)
    partners = rng.choice(crew, min(int(rng.integers(1, 3)), len(crew)), replace=False)
    return _Ring(span, members, partners, float(drivers.zone_lat[head]), float(drivers.zone_lon[head]))


def _nearest(lat: Floats, lon: Floats, among: Ints, centre: int, k: int) -> Ints:
    result: Ints = among[np.argsort(np.hypot(lat[among] - lat[centre], lon[among] - lon[centre]))[:k]]
    return result


def _burst(ring: _Ring, people: Population, n: int, day: int, rng: np.random.Generator) -> Requests:
    member = rng.integers(0, len(ring.riders), n)
    rider = ring.riders[member]
    partner = ring.drivers[member % len(ring.drivers)]
    driver = np.where(chance(0.8, n, rng), partner, rng.choice(ring.drivers, n))
    start = at_local_hour(day, rng.uniform(8, 23, 1))
    time = start + np.cumsum(rng.exponential(1500, n))
    pickup = move(np.full(n, ring.lat), np.full(n, ring.lon), 1500.0, rng)
    dropoff = move(*pickup, rng.lognormal(np.log(2200), 0.7, n), rng)
    # Most of the time the phones and cards of the first two are passed around.
    shared = ring.riders[rng.integers(0, 2, n) % len(ring.riders)]
    device = np.where(chance(0.65, n, rng), people.riders.device[shared], people.riders.device[rider])
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
        typology=_CODE,
        ring=ring.span.ring,
    )
