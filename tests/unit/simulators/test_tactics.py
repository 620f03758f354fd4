from typing import Any

import numpy as np
import pytest

from simulators.ride_hailing.adversary import NEUTRAL, Tactics
from simulators.ride_hailing.geography import DAY_S, distance_m, local_hour
from simulators.ride_hailing.requests import Requests
from simulators.ride_hailing.tactics import carry_out, exchange_hours

N, DAY = 400, 3


def asked(typology: Any, ring: Any) -> Requests:
    """N requests between 07:00 and 14:00 UTC of day DAY, about two kilometres long."""
    rng = np.random.default_rng(0)
    zero, lat = np.zeros(N, np.int64), np.full(N, 35.7)
    return Requests(
        time=DAY * DAY_S + np.sort(rng.uniform(7, 14, N)) * 3600,
        rider=np.arange(N),
        driver=zero - 1,
        device=zero,
        method=zero,
        instrument=zero,
        promo=zero,
        pickup_lat=lat,
        pickup_lon=lat + 15,
        dropoff_lat=lat + rng.normal(0, 0.02, N),
        dropoff_lon=lat + 15 + rng.normal(0, 0.02, N),
        typology=np.broadcast_to(typology, N),
        ring=np.broadcast_to(ring, N),
    )


def lengths(requests: Requests) -> np.ndarray:
    away = distance_m(requests.pickup_lat, requests.pickup_lon, requests.dropoff_lat, requests.dropoff_lon)
    return away[np.argsort(requests.rider)]


def played(before: Requests, tactics: Tactics) -> Requests:
    return carry_out(before, lambda _typology, _day: tactics, DAY, np.random.default_rng(1))


def test_abusers_whom_nobody_blocks_do_as_planned() -> None:
    before = asked(1, 1000)
    after = played(before, NEUTRAL)
    assert (after.time == before.time).all()
    assert (lengths(after) == lengths(before)).all()


def test_boldness_scales_staged_trips_and_no_honest_one() -> None:
    fraud = np.arange(N) % 10 == 0
    before = asked(fraud.astype(np.int64), np.where(fraud, 1000, -1))
    after = played(before, Tactics(boldness=0.6))
    assert lengths(after)[fraud] == pytest.approx(0.6 * lengths(before)[fraud], rel=1e-3)
    assert (lengths(after)[~fraud] == lengths(before)[~fraud]).all()


def test_pace_stretches_each_ring_from_its_own_start() -> None:
    ring = np.arange(N) % 4 + 1000
    before = asked(1, ring)
    after = played(before, Tactics(pace=2.0))
    time = after.time[np.argsort(after.rider)]
    for name in range(1000, 1004):
        was, now = before.time[ring == name], time[ring == name]
        assert now[0] == was[0]
        assert now - now[0] == pytest.approx(2 * (was - was[0]))
    assert (np.diff(after.time) >= 0).all()


def test_night_puts_off_whole_rings_and_never_brings_one_forward() -> None:
    before = asked(1, np.arange(N))
    after = played(before, Tactics(night=0.5))
    moved = after.time[np.argsort(after.rider)] - before.time
    hour = local_hour(after.time)
    assert (moved >= 0).all()
    assert (moved > 0).mean() == pytest.approx(0.5, abs=0.1)
    assert ((hour >= 22) | (hour < 2.6)).mean() == pytest.approx(0.5, abs=0.1)


def test_exchanged_hours_are_the_same_hours_in_each_city() -> None:
    """Fraud is all in the first hour; afterwards it is anywhere, and each city's hours are what they were."""
    fraud = np.arange(N) < 40
    before, city = asked(fraud.astype(np.int64), -1), np.arange(N) % 2
    fixed = np.arange(N) % 10 == 9
    after = exchange_hours(before, city, ~fixed, fraud, np.random.default_rng(0))
    order = np.argsort(after.rider)
    for code in (0, 1):
        assert (np.sort(after.time[order][city == code]) == np.sort(before.time[city == code])).all()
    assert (after.time[order][fixed] == before.time[fixed]).all()
    was, now = (np.median(t) / 3600 for t in (before.time[fraud], after.time[order][fraud]))
    assert now - was > 1.5
    assert (after.typology > 0).sum() == 40
