"""Drivers who fake their position to be paid for kilometres that nobody drove."""

from __future__ import annotations

import numpy as np

from simulators.ride_hailing.abuse.rings import active, incidents_per_day, ring_spans
from simulators.ride_hailing.geography import DAY_S, Floats, Ints, Map
from simulators.ride_hailing.population import Population
from simulators.ride_hailing.settings import WorldSettings
from simulators.ride_hailing.trips import Trips, change_completion, price

_CODE = 3
_AT_ONCE = 3  # drivers who cheat on the same day


class GpsSpoofing:
    """Inflates some of the completed trips of drivers who drive honestly otherwise."""

    def __init__(self, settings: WorldSettings, places: Map, people: Population) -> None:
        rng = settings.rng("spoofers")
        self._settings, self._places = settings, places
        self._counts = incidents_per_day(settings, "gps_spoofing")
        self._spans = ring_spans(settings, places, "gps_spoofing")
        self._drivers = np.array([_pick(people, span.city, rng) for span in self._spans])
        self._owed = 0

    def spoof(self, trips: Trips, day: int) -> Trips:
        """The trips with the day's fakes; what no suitable trip was found for is owed to the next day."""
        rng = self._settings.rng("gps_spoofing", day)
        now = rng.permutation(active(self._spans, day))[:_AT_ONCE]
        end = (day + 1) * DAY_S
        usable = trips.completed & (trips.typology == 0) & (trips.ended < end) & (trips.billed_distance_m > 1500)
        suitable = np.flatnonzero(usable & np.isin(trips.driver, self._drivers[now]))
        wanted = int(self._counts[day]) + self._owed
        chosen = rng.permutation(suitable)[:wanted]
        self._owed = wanted - len(chosen)
        ring_of = {int(self._drivers[k]): self._spans[k].ring for k in now}
        ring = np.array([ring_of[int(d)] for d in trips.driver[chosen]], np.int64)
        return _inflate(self._places, trips, chosen, ring, rng)


def _pick(people: Population, city: int, rng: np.random.Generator) -> int:
    local = np.flatnonzero(people.drivers.city == city)
    return int(rng.choice(local if len(local) else np.arange(len(people.drivers.city))))


def _inflate(places: Map, trips: Trips, chosen: Ints, ring: Ints, rng: np.random.Generator) -> Trips:
    n = len(chosen)
    factor = rng.uniform(1.4, 2.1, n)
    # A lazy cheat leaves the clock alone, and the trip comes out too fast; a careful one stretches both.
    lazy = rng.random(n) < 0.5
    distance = trips.billed_distance_m[chosen] * factor
    duration = trips.billed_duration_s[chosen] * np.where(lazy, rng.uniform(0.8, 1.1, n), factor)
    accuracy, jump = _fake_gps(trips.end_accuracy_m[chosen], trips.jump_m[chosen], rng)
    return change_completion(
        trips,
        chosen,
        billed_distance_m=distance,
        billed_duration_s=duration,
        billed_fare=price(places, trips.city[chosen], distance, duration, trips.surge[chosen]),
        end_accuracy_m=accuracy,
        jump_m=jump,
        ended=trips.ended[chosen] + duration - trips.billed_duration_s[chosen],
        typology=_CODE,
        ring=ring,
    )


def _fake_gps(accuracy: Floats, jump: Floats, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Mock-location apps report a suspiciously small radius, and jump where they are switched on."""
    n = len(accuracy)
    mocked = rng.random(n) < 0.45
    jumps = rng.random(n) < 0.45
    return np.where(mocked, rng.uniform(3, 6, n), accuracy), np.where(jumps, jump * rng.lognormal(1.3, 0.7, n), jump)
