"""Who lives and rides together: families, dormitories, commuters with their driver. All of it is honest."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from simulators.ride_hailing.settings import WorldSettings

if TYPE_CHECKING:
    from simulators.ride_hailing.population import Drivers, Riders


def form_families(riders: Riders, settings: WorldSettings, rng: np.random.Generator) -> None:
    """Households of two to four who live together, share a card and now and then a phone: an honest cluster."""
    members = rng.permutation(settings.riders)[: round(settings.family_share * settings.riders)]
    start = 0
    while start < len(members):
        family = members[start : start + int(rng.integers(2, 5))]
        head = family[0]
        riders.city[family] = riders.city[head]
        for field in (riders.home_lat, riders.home_lon, riders.place_lat, riders.place_lon):
            field[family] = field[head]
        riders.shared_device[family] = head
        riders.card[family] = head
        start += len(family)


def found_dormitories(riders: Riders, settings: WorldSettings, first_desk: int, rng: np.random.Generator) -> int:
    """Dozens of riders at one address with one phone at the desk: honest accounts by the dozen on one device.

    Returns:
        How many there are; the desks' devices are numbered from `first_desk`.
    """
    alone = np.flatnonzero(riders.card[: settings.riders] == np.arange(settings.riders))
    students = rng.permutation(alone)[: round(settings.dormitory_share * settings.riders)]
    houses = np.split(students, np.cumsum(rng.integers(12, 40, len(students) // 12 + 1)))
    houses = [house for house in houses if len(house)]
    for number, house in enumerate(houses):
        first = house[0]
        for field in (riders.city, riders.home_lat, riders.home_lon):
            field[house] = field[first]
        # One campus, each to their own friends.
        away = rng.normal(0, 0.03, (2, len(house), riders.place_lat.shape[1]))
        riders.place_lat[house] = riders.place_lat[first] + away[0]
        riders.place_lon[house] = riders.place_lon[first] + away[1]
        riders.place_lat[house, 1], riders.place_lon[house, 1] = riders.place_lat[first, 1], riders.place_lon[first, 1]
        riders.shared_device[house] = first_desk + number
        riders.commuter[house] = False
    return len(houses)


def find_regular_drivers(riders: Riders, drivers: Drivers, share: float, rng: np.random.Generator) -> None:
    """A share of the commuters ride with one driver who lives nearby: an honest repeated pair."""
    for rider in np.flatnonzero(riders.commuter & (rng.random(len(riders.city)) < share)):
        starts_later = (riders.leaves_at[rider] - drivers.shift_start) % 24
        fits = (drivers.city == riders.city[rider]) & (starts_later < drivers.shift_hours)
        if fits.any():
            away = np.abs(drivers.zone_lat - riders.home_lat[rider])
            away += np.abs(drivers.zone_lon - riders.home_lon[rider])
            nearest = np.argsort(np.where(fits, away, np.inf), kind="stable")[: min(3, int(fits.sum()))]
            riders.regular_driver[rider] = rng.choice(nearest)
