"""Which driver takes which request."""

from __future__ import annotations

import numpy as np

from simulators.ride_hailing.geography import Floats, Ints, distance_m
from simulators.ride_hailing.population import Population
from simulators.ride_hailing.requests import Requests
from simulators.ride_hailing.settings import WorldSettings

_WORKS_TODAY = 0.78
_PICKUP_S = 240.0
_REACH_M = 2500.0  # a driver this much further away is e times less likely to be offered the trip


def match_drivers(settings: WorldSettings, people: Population, requests: Requests, busy_s: Floats, day: int) -> Ints:
    """Gives each request, in time order, a free driver who is on shift and near; -1 where there is none.

    A driver who is asked for comes when free and on shift; in a staged trip (typology > 0) always.

    Args:
        settings: the world's settings.
        people: the population; `drivers.free_at` is moved on.
        requests: n requests in time order.
        busy_s: how long each trip keeps its driver, shape [n].
        day: the day, which decides who works.
    """
    rng = settings.rng("matching", day)
    drivers = people.drivers
    swaps = rng.random(len(drivers.city)) < settings.shift_swap_share
    drivers.shift_today = np.where(swaps, rng.permutation(drivers.shift_start), drivers.shift_start)
    works = rng.random(len(drivers.city)) < _WORKS_TODAY
    crews = [np.flatnonzero(works & (drivers.city == code)) for code in range(len(settings.cities))]
    matched = np.full(len(requests), -1)
    city = people.riders.city[requests.rider]
    for i in range(len(requests)):
        time = requests.time[i]
        asked = requests.driver[i : i + 1]
        staged = requests.typology[i] > 0
        if asked[0] >= 0 and (staged or _available(people, asked, time)[0]):
            driver = int(asked[0])
        else:
            where = requests.pickup_lat[i], requests.pickup_lon[i]
            driver = _nearby(people, crews[city[i]], time, where, rng)
        if driver >= 0:
            matched[i] = driver
            drivers.free_at[driver] = time + busy_s[i] + _PICKUP_S
    return matched


def _available(people: Population, driver: Ints, time: float) -> np.ndarray:
    return people.drivers.on_shift(driver, time) & (people.drivers.free_at[driver] <= time)


def _nearby(people: Population, crew: Ints, time: float, where: tuple[float, float], rng: np.random.Generator) -> int:
    crew = crew[_available(people, crew, time)]
    if len(crew) == 0:
        return -1
    drivers = people.drivers
    away = distance_m(drivers.zone_lat[crew], drivers.zone_lon[crew], *where)
    # The Gumbel-max trick: a draw with probabilities proportional to exp(-away / reach).
    return int(crew[np.argmax(rng.gumbel(size=len(crew)) - away / _REACH_M)])
