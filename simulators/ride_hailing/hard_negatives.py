"""Honest people and bad days that look like fraud: travellers, bank outages, closed roads.

The other groups live where they arise: families, dormitories and regular pairs in households.py, cheap phones in
population.py, errands and hotel desks in demand.py, resold phones in accounts.py, swapped shifts in matching.py,
jamming in geography.py, Nowruz and holidays in calendar.py. `WorldSettings` has a share for each. That the shares are
of a plausible size is assumed throughout. That a whole city can lose its GPS is not: in Iran it did for weeks after
June 2025, and drivers of ride hailing lost their way (AFP, 17 August 2025).
"""

from __future__ import annotations

import numpy as np

from simulators.ride_hailing.calendar import Calendar
from simulators.ride_hailing.geography import DAY_S, Floats, Ints, Map, Mask, Place, distance_m
from simulators.ride_hailing.population import Population, Riders
from simulators.ride_hailing.settings import WorldSettings

_CLOSURE_RADIUS_M = 2500.0
_OF_A_TRAVELLER = ("city", "home_lat", "home_lon", "place_lat", "place_lon", "commuter", "shared_device")


class Disruptions:
    """When charges fail for everybody, and where roads are closed, in the cities of `places`."""

    def __init__(self, settings: WorldSettings, places: Map) -> None:
        self.places = places
        rng = settings.rng("outages")
        days = np.flatnonzero(rng.random(settings.days) < settings.outage_share)
        self._start: Floats = days * DAY_S + rng.uniform(4, 16, len(days)) * 3600
        self._end = self._start + rng.uniform(2, 5, len(days)) * 3600
        rng = settings.rng("closures")
        every_city = np.repeat(np.arange(len(places.cities))[None, :], settings.days, axis=0)
        lat, lon = places.scatter(every_city.ravel(), rng)
        self._closed: Mask = rng.random(every_city.shape) < settings.closure_share
        self._lat, self._lon = lat.reshape(every_city.shape), lon.reshape(every_city.shape)

    def outage(self, time: Floats) -> Mask:
        """Whether the banks are down at that time, shape [n]."""
        return np.asarray(np.searchsorted(self._start, time, "right") != np.searchsorted(self._end, time, "right"))

    def closed(self, day: int, city: Ints, ends: tuple[Place, Place]) -> Mask:
        """Whether a trip of the day begins or ends in a district of its city whose roads are closed, shape [n]."""
        lat, lon = self._lat[day, city], self._lon[day, city]
        inside = [distance_m(*end, lat, lon) < _CLOSURE_RADIUS_M for end in ends]
        return np.asarray(self._closed[day, city] & (inside[0] | inside[1]))


class Travel:
    """Riders who spend some days in another city: a new neighbourhood, and the hotel's phone now and then."""

    def __init__(self, settings: WorldSettings, places: Map, people: Population) -> None:
        self._settings, self._places, self._people = settings, places, people
        self._calendar = Calendar(settings)
        self._back = np.full(len(people.riders.city), -1)  # the day of the return, -1 at home
        self._at_home = {name: getattr(people.riders, name).copy() for name in _OF_A_TRAVELLER}

    def begin(self, day: int) -> None:
        """Brings home who returns on the day, and sends others off."""
        riders = self._people.riders
        returning = np.flatnonzero(self._back == day)
        for name in _OF_A_TRAVELLER:
            getattr(riders, name)[returning] = self._at_home[name][returning]
        self._back[returning] = -1
        if len(self._places.cities) > 1:
            self._depart(riders, day, self._settings.rng("travel", day))

    def _depart(self, riders: Riders, day: int, rng: np.random.Generator) -> None:
        likely = min(0.5, self._settings.traveller_share * self._calendar.travel(day))
        free = (riders.signup_time[: self._settings.riders] < day * DAY_S) & (self._back[: self._settings.riders] < 0)
        rider = np.flatnonzero(free & (rng.random(len(free)) < likely))
        n, cities = len(rider), len(self._places.cities)
        for name in _OF_A_TRAVELLER:
            self._at_home[name][rider] = getattr(riders, name)[rider]
        riders.city[rider] = (riders.city[rider] + rng.integers(1, cities, n)) % cities
        riders.home_lat[rider], riders.home_lon[rider] = self._places.scatter(riders.city[rider], rng)
        for column in range(riders.place_lat.shape[1]):
            place = self._places.scatter(riders.city[rider], rng)
            riders.place_lat[rider, column], riders.place_lon[rider, column] = place
        riders.commuter[rider] = False
        desks = self._people.desk_devices
        riders.shared_device[rider] = desks[riders.city[rider], rng.integers(0, desks.shape[1], n)]
        self._back[rider] = day + rng.integers(2, 7, n)
