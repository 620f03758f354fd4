"""What honest riders ask for in a day: commutes, outings, errands and a newcomer's first ride."""

from __future__ import annotations

import numpy as np

from simulators.ride_hailing.calendar import Calendar
from simulators.ride_hailing.geography import DAY_S, Ints, Mask, Place, at_local_hour, distance_m, leisure_times, move
from simulators.ride_hailing.population import Population
from simulators.ride_hailing.requests import NO_PROMO, WELCOME, Requests, chance, concat, pick_device, request
from simulators.ride_hailing.settings import WorldSettings

# Events that one trip gives rise to on average, its account changes included: measured on the default world.
_EVENTS_PER_TRIP = 2.87
# Trips of a weekday, Monday first; Friday is the day of rest and Thursday half of one.
_WEEKDAY_LEISURE = (0.95, 0.95, 1.0, 1.25, 1.35, 1.0, 0.95)
_WEEKDAY_COMMUTE = (1.0, 1.0, 1.0, 0.55, 0.05, 1.0, 1.0)
_COMMUTE_CHANCE = 0.5


def honest_requests(settings: WorldSettings, people: Population, day: int) -> Requests:
    """All honest requests of UTC day `day`, in time order."""
    rng = settings.rng("demand", day)
    calendar = Calendar(settings)
    known = (people.riders.signup_time < day * DAY_S) & (people.riders.churn_time > day * DAY_S)
    scale = _scale(settings, people)
    commuters = np.flatnonzero(known & people.riders.commuter)
    likely = min(0.95, scale * _COMMUTE_CHANCE) * calendar.commute(day)
    outings = rng.poisson(people.riders.rate * known * scale * calendar.leisure(day))
    parts = [
        _commute(people, commuters[chance(likely, len(commuters), rng)], day, rng, to_work=True),
        _commute(people, commuters[chance(likely, len(commuters), rng)], day, rng, to_work=False),
        _outings(people, np.repeat(np.arange(len(outings)), outings), day, rng),
        _first_rides(people, day, rng),
    ]
    errands = max(1, round(settings.events_per_day / 2000))
    parts += [_errands(people, np.flatnonzero(known), day, rng) for _ in range(errands)]
    return concat(parts)


def _scale(settings: WorldSettings, people: Population) -> float:
    """Brings the riders' own rates to the number of trips that the settings ask for."""
    riders = people.riders
    signed = np.isfinite(riders.signup_time)
    end = settings.days * DAY_S
    lifetime = np.clip((np.minimum(riders.churn_time, end) - np.maximum(riders.signup_time, 0)) / end, 0, 1)
    weight = np.where(signed, lifetime, 0.0)
    a_day = np.sum(weight * (riders.rate + riders.commuter * 2 * _COMMUTE_CHANCE * 0.8))
    return float(settings.events_per_day / _EVENTS_PER_TRIP / a_day)


def _choose(condition: Mask, one: Place, other: Place) -> Place:
    return np.where(condition, one[0], other[0]), np.where(condition, one[1], other[1])


def _commute(people: Population, rider: Ints, day: int, rng: np.random.Generator, *, to_work: bool) -> Requests:
    home = people.home(rider, rng)
    work = people.favourite(rider, np.zeros(len(rider), np.int64), rng)
    hour = (people.riders.leaves_at if to_work else people.riders.returns_at)[rider]
    time = at_local_hour(day, hour + rng.normal(0, 0.2, len(rider)))
    regular = np.where(chance(0.65, len(rider), rng), people.riders.regular_driver[rider], -1)
    ends = (home, work) if to_work else (work, home)
    return request(people, rng, rider, time, ends, driver=regular)


def _outings(people: Population, rider: Ints, day: int, rng: np.random.Generator) -> Requests:
    n = len(rider)
    home, away = people.home(rider, rng), people.favourite(rider, rng.integers(1, 4, n), rng)
    # A third of outings stay in the neighbourhood: short trips are common and prove nothing.
    near = move(*home, rng.uniform(600, 2200, n), rng)
    away = _choose(chance(0.33, n, rng), near, away)
    outward = chance(0.58, n, rng)
    ends = _choose(outward, home, away), _choose(outward, away, home)
    return request(people, rng, rider, leisure_times(day, n, rng), ends)


def _first_rides(people: Population, day: int, rng: np.random.Generator) -> Requests:
    """Six in ten newcomers sign up because they want a ride now; some do so at a hotel's desk."""
    signup = people.riders.signup_time
    rider = np.flatnonzero((signup >= day * DAY_S) & (signup < (day + 1) * DAY_S))
    rider = rider[chance(0.6, len(rider), rng)]
    n = len(rider)
    time = signup[rider] + 120.0 + rng.lognormal(7.6, 1.0, n)
    desk = people.desk_devices[people.riders.city[rider], rng.integers(0, people.desk_devices.shape[1], n)]
    device = np.where(chance(0.2, n, rng), desk, pick_device(people, rider, rng))
    promo = np.where(chance(0.7, n, rng), WELCOME, NO_PROMO)
    home, away = people.home(rider, rng), people.favourite(rider, rng.integers(1, 4, n), rng)
    return request(people, rng, rider, time, (home, away), device=device, promo=promo)


def _errands(people: Population, known: Ints, day: int, rng: np.random.Generator) -> Requests:
    """One rider keeps one driver for an afternoon of short hops: an honest burst of a repeated pair."""
    n = int(rng.integers(3, 6))
    rider = np.full(n, rng.choice(known))
    start = at_local_hour(day, rng.uniform(8, 20, 1))
    time = start + np.cumsum(rng.uniform(900, 3000, n))
    stop = people.home(rider[:1], rng)
    lat, lon = move(np.repeat(stop[0], n + 1), np.repeat(stop[1], n + 1), 1500.0, rng)
    drivers = people.drivers
    nearby = np.flatnonzero(drivers.city == people.riders.city[rider[0]])
    nearby = nearby[drivers.on_shift(nearby, start)]
    if len(nearby) == 0:
        driver = -1
    else:
        away = distance_m(drivers.zone_lat[nearby], drivers.zone_lon[nearby], lat[0], lon[0])
        driver = int(nearby[np.argmin(away * rng.uniform(1, 3, len(nearby)))])
    return request(people, rng, rider, time, ((lat[:-1], lon[:-1]), (lat[1:], lon[1:])), driver=driver)
