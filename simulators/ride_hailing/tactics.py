"""What abusers' tactics and changed ways do to what they had planned: pure functions on a day's requests and trips.

Concept drift is made by exchange: what abusers did at one hour they now do at the hour of some honest request, which
takes theirs, and likewise for the GPS readings of drivers. The day's hours and readings stay the same to the last
value, and so does the rate of fraud; what they say about fraud does not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from simulators.ride_hailing.adversary import NEUTRAL, Tactics
from simulators.ride_hailing.geography import DAY_S, UTC_OFFSET_H, Floats, Ints, Mask
from simulators.ride_hailing.requests import Requests, concat
from simulators.ride_hailing.settings import TYPOLOGIES
from simulators.ride_hailing.trips import OUTCOME, Trips, change

_NIGHT_FROM_H, _NIGHT_TO_H = 22.0, 26.5  # local hours; UTC midnight is half past three


def carry_out(
    requests: Requests, tactics: Callable[[str, int], Tactics], day: int, rng: np.random.Generator
) -> Requests:
    """A day's requests with the staged ones as bold, as paced and as late as their tactics are, in time order."""
    for code in np.unique(requests.typology[requests.typology > 0]):
        how = tactics(TYPOLOGIES[code - 1], day)
        if how != NEUTRAL:
            requests = _as_planned_with(requests, np.flatnonzero(requests.typology == code), how, day, rng)
    return concat([requests])


def exchange_hours(requests: Requests, city: Ints, movable: Mask, drifted: Mask, rng: np.random.Generator) -> Requests:
    """Requests whose drifted rows have exchanged times with honest ones of the same city, in time order.

    Args:
        requests: n requests.
        city: their city codes, shape [n].
        movable: rows whose hour depends on nothing else, shape [n].
        drifted: rows of typologies that have changed their ways, shape [n].
        rng: where chance comes from.
    """
    ours, theirs = _partners(city, drifted & movable, (requests.typology == 0) & movable, rng)
    time = requests.time.copy()
    time[ours], time[theirs] = requests.time[theirs], requests.time[ours]
    return concat([replace(requests, time=time)])


def exchange_gps(trips: Trips, drifted: Ints, rng: np.random.Generator) -> Trips:
    """Trips whose fraudulent outcomes have exchanged their driver's GPS with honest trips of the same city.

    Args:
        trips: n trips.
        drifted: codes of the typologies that have changed their ways.
        rng: where chance comes from.
    """
    fraud = trips.completed & np.isin(trips.marks[:, OUTCOME], drifted)
    ours, theirs = _partners(trips.city, fraud, trips.completed & trips.honest, rng)
    rows, other = np.concatenate([ours, theirs]), np.concatenate([theirs, ours])
    return change(trips, rows, end_accuracy_m=trips.end_accuracy_m[other], jump_m=trips.jump_m[other])


def _as_planned_with(requests: Requests, rows: Ints, how: Tactics, day: int, rng: np.random.Generator) -> Requests:
    time, lat, lon = requests.time.copy(), requests.dropoff_lat.copy(), requests.dropoff_lon.copy()
    lat[rows] = requests.pickup_lat[rows] + how.boldness * (lat[rows] - requests.pickup_lat[rows])
    lon[rows] = requests.pickup_lon[rows] + how.boldness * (lon[rows] - requests.pickup_lon[rows])
    time[rows] = _paced(requests.time[rows], requests.ring[rows], how, day, rng)
    return replace(requests, time=time, dropoff_lat=lat, dropoff_lon=lon)


def _paced(time: Floats, ring: Ints, how: Tactics, day: int, rng: np.random.Generator) -> Floats:
    """Times with each ring's spacing stretched, and some rings' whole day put off until the night; never earlier."""
    _, group = np.unique(ring, return_inverse=True)
    start = np.full(group.max(initial=-1) + 1, np.inf)
    np.minimum.at(start, group, time)
    night = (rng.uniform(_NIGHT_FROM_H, _NIGHT_TO_H, len(start)) - UTC_OFFSET_H) * 3600 + day * DAY_S
    begin = np.where(rng.random(len(start)) < how.night, np.maximum(night, start), start)
    stretched: Floats = begin[group] + (time - start[group]) * how.pace
    return stretched


def _partners(city: Ints, ours: Mask, honest: Mask, rng: np.random.Generator) -> tuple[Ints, Ints]:
    """Pairs of one of ours and an honest row of its city, nobody twice: positions, shape [k] each."""
    pairs = []
    for code in np.unique(city[ours]):
        a = rng.permutation(np.flatnonzero(ours & (city == code)))
        b = rng.permutation(np.flatnonzero(honest & (city == code)))
        k = min(len(a), len(b))
        pairs.append(np.stack([a[:k], b[:k]]))
    both = np.concatenate(pairs, axis=1) if pairs else np.empty((2, 0), np.int64)
    return both[0], both[1]
