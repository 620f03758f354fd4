"""Whom the cheats are drawn from, and which trips they can tamper with."""

from __future__ import annotations

import numpy as np

from simulators.ride_hailing.abuse.rings import Span
from simulators.ride_hailing.geography import DAY_S, Ints, Mask
from simulators.ride_hailing.population import Population
from simulators.ride_hailing.settings import WorldSettings
from simulators.ride_hailing.trips import Trips


def local_drivers(spans: list[Span], people: Population, rng: np.random.Generator) -> Ints:
    """An ordinary driver of each span's city, shape [len(spans)]."""
    city = people.drivers.city
    everybody = np.ones(len(city), np.bool_)
    return np.array([_pick(np.flatnonzero(city == span.city), everybody, rng) for span in spans])


def local_riders(
    spans: list[Span], settings: WorldSettings, people: Population, rng: np.random.Generator, size: int = 1
) -> Ints:
    """Riders of each span's city with old accounts, who ride more than most do, shape [len(spans), size]."""
    riders = people.riders
    old = riders.signup_time < 0
    old &= riders.rate >= np.median(riders.rate[old])
    old[settings.riders :] = False
    return np.stack([_pick(np.flatnonzero(old & (riders.city == span.city)), old, rng, size) for span in spans])


def _pick(local: Ints, everybody: Mask, rng: np.random.Generator, size: int | None = None) -> Ints:
    among = local if len(local) else np.flatnonzero(everybody)
    return np.asarray(rng.choice(among, size))


def driven_today(trips: Trips, day: int) -> Mask:
    """Honest trips that were completed before the day's end, and would be if they took twice as long, shape [n]."""
    result: Mask = trips.completed & trips.honest & (trips.ended + 1.2 * trips.billed_duration_s < (day + 1) * DAY_S)
    return result
