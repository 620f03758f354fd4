"""Who lives in the world: riders, their phones and cards, and drivers with their shifts.

Ids are numbered at random, so that an id says nothing about its owner's part in the story.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from simulators.ride_hailing.geography import DAY_S, Floats, Ints, Map, Mask, local_hour
from simulators.ride_hailing.settings import WorldSettings

NEVER = np.inf
_FAVOURITES = 3
_DESKS_PER_CITY = 2
_JOIN_A_DAY = 0.0065  # share of the riders who sign up on any one day


@dataclass
class Riders:
    """n riders; arrays of shape [n] unless stated. What the story changes (phones, sign-ups) is changed in place.

    Attributes:
        signup_time: seconds since the first midnight; negative for old accounts, NEVER for accounts not yet made.
        place_lat, place_lon: [n, 4] favourite places; column 0 is work for a commuter.
        device, card: indices; the rider's own or, for families, also the household's.
        shared_device: the household head's phone, or the rider's own.
        regular_driver: the driver who usually takes this commuter, or -1.
    """

    city: Ints
    home_lat: Floats
    home_lon: Floats
    place_lat: Floats
    place_lon: Floats
    rate: Floats
    commuter: Mask
    leaves_at: Floats
    returns_at: Floats
    signup_time: Floats
    device: Ints
    shared_device: Ints
    card: Ints
    likes_cash: Floats
    likes_card: Floats
    regular_driver: Ints


@dataclass
class Drivers:
    """n drivers; arrays of shape [n]. `free_at` moves as they drive."""

    city: Ints
    zone_lat: Floats
    zone_lon: Floats
    shift_start: Floats
    shift_hours: Floats
    accuracy_m: Floats
    jump_m: Floats
    free_at: Floats

    def on_shift(self, driver: Ints, time: Floats | float) -> Mask:
        """Whether the time falls in the hours these drivers keep, on days on which they work."""
        hour = local_hour(np.asarray(time, np.float64))
        result: Mask = (hour - self.shift_start[driver]) % 24 < self.shift_hours[driver]
        return result


@dataclass
class Population:
    """Everybody. Devices: one for each rider, then spares, then hotel desks. Instruments: cards, then wallets."""

    riders: Riders
    drivers: Drivers
    device_accuracy_m: Floats
    spare_devices: list[int]
    desk_devices: Ints
    rider_ids: list[str]
    driver_ids: list[str]
    device_ids: list[str]
    instrument_ids: list[str]

    def wallet(self, rider: Ints) -> Ints:
        """The wallet of each rider, as an instrument index."""
        result: Ints = rider + len(self.riders.city)
        return result


def populate(settings: WorldSettings, places: Map, reserve: int) -> Population:
    """Builds the population.

    Args:
        settings: the world's settings.
        places: its cities.
        reserve: accounts to prepare beside the honest ones, not signed up yet.
    """
    rng = settings.rng("population")
    drivers = _drivers(settings.drivers, places, rng)
    riders = _riders(settings, places, drivers, reserve, rng)
    n = len(riders.city)
    desks = _DESKS_PER_CITY * len(places.cities)
    spares = n // 2
    devices = n + spares + desks
    return Population(
        riders=riders,
        drivers=drivers,
        device_accuracy_m=_phone_accuracy(devices, rng),
        spare_devices=list(range(n, n + spares)),
        desk_devices=np.arange(n + spares, devices).reshape(-1, _DESKS_PER_CITY),
        rider_ids=_ids("rider", n, rng),
        driver_ids=_ids("driver", settings.drivers, rng),
        device_ids=_ids("device", devices, rng),
        instrument_ids=_ids("pay", 2 * n, rng),
    )


def _ids(prefix: str, n: int, rng: np.random.Generator) -> list[str]:
    return [f"{prefix}-{number:06d}" for number in rng.permutation(n)]


def _phone_accuracy(n: int, rng: np.random.Generator) -> Floats:
    """Usual GPS radius of phones, metres; one in seven is cheap and bad at it."""
    median = np.where(rng.random(n) < 0.15, 26.0, 8.0)
    result: Floats = median * rng.lognormal(0.0, 0.25, n)
    return result


def _drivers(n: int, places: Map, rng: np.random.Generator) -> Drivers:
    city = rng.choice(len(places.cities), n, p=places.share)
    lat, lon = places.scatter(city, rng)
    accuracy = _phone_accuracy(n, rng)
    return Drivers(
        city=city,
        zone_lat=lat,
        zone_lon=lon,
        shift_start=rng.choice([5.8, 9.5, 13.5, 18.5], n, p=[0.4, 0.2, 0.3, 0.1]) + rng.normal(0, 0.6, n),
        shift_hours=rng.uniform(7.5, 12.0, n),
        accuracy_m=accuracy,
        jump_m=9.0 * accuracy * rng.lognormal(0.0, 0.3, n),
        free_at=np.full(n, -DAY_S),
    )


def _riders(settings: WorldSettings, places: Map, drivers: Drivers, reserve: int, rng: np.random.Generator) -> Riders:
    n = settings.riders + reserve
    city = rng.choice(len(places.cities), n, p=places.share)
    home_lat, home_lon = places.scatter(city, rng)
    favourites = [places.scatter(city, rng) for _ in range(_FAVOURITES + 1)]
    commuter = rng.random(n) < 0.16
    joins = min(0.5, _JOIN_A_DAY * settings.days)
    signup = np.where(rng.random(n) < joins, rng.uniform(0, settings.days * DAY_S, n), -DAY_S)
    signup[settings.riders :] = NEVER
    riders = Riders(
        city=city,
        home_lat=home_lat,
        home_lon=home_lon,
        place_lat=np.stack([lat for lat, _ in favourites], axis=1),
        place_lon=np.stack([lon for _, lon in favourites], axis=1),
        rate=rng.gamma(0.9, 0.33, n),
        commuter=commuter,
        leaves_at=rng.normal(7.6, 0.6, n),
        returns_at=rng.normal(17.3, 0.9, n),
        signup_time=signup,
        device=np.arange(n),
        shared_device=np.arange(n),
        card=np.arange(n),
        likes_cash=rng.beta(1.2, 2.0, n),
        likes_card=rng.beta(2.0, 1.2, n),
        regular_driver=np.full(n, -1),
    )
    _form_families(riders, settings.riders, rng)
    _find_regular_drivers(riders, drivers, rng)
    return riders


def _form_families(riders: Riders, n: int, rng: np.random.Generator) -> None:
    """Households of two to four who live together, share a card and now and then a phone: an honest cluster."""
    members = rng.permutation(n)[: n // 9]
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


def _find_regular_drivers(riders: Riders, drivers: Drivers, rng: np.random.Generator) -> None:
    """A third of the commuters ride with one driver who lives nearby: an honest repeated pair."""
    for rider in np.flatnonzero(riders.commuter & (rng.random(len(riders.city)) < 0.35)):
        starts_later = (riders.leaves_at[rider] - drivers.shift_start) % 24
        fits = (drivers.city == riders.city[rider]) & (starts_later < drivers.shift_hours)
        if fits.any():
            away = np.abs(drivers.zone_lat - riders.home_lat[rider])
            away += np.abs(drivers.zone_lon - riders.home_lon[rider])
            nearest = np.argsort(np.where(fits, away, np.inf))[: min(3, int(fits.sum()))]
            riders.regular_driver[rider] = rng.choice(nearest)
