"""Who lives in the world: riders, their phones and cards, and drivers with their shifts.

Ids are numbered at random, so that an id says nothing about its owner's part in the story.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from simulators.ride_hailing.geography import DAY_S, Floats, Ints, Map, Mask, Place, local_hour, move
from simulators.ride_hailing.households import find_regular_drivers, form_families, found_dormitories
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
        shared_device: the household head's phone, the dormitory's, or the rider's own.
        churn_time: when the rider stops riding, seconds since the first midnight; NEVER for most.
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
    churn_time: Floats
    device: Ints
    shared_device: Ints
    card: Ints
    likes_cash: Floats
    likes_card: Floats
    regular_driver: Ints


@dataclass
class Drivers:
    """n drivers; arrays of shape [n]. `free_at` moves as they drive; `shift_today` is the shift, or a swapped one."""

    city: Ints
    zone_lat: Floats
    zone_lon: Floats
    shift_start: Floats
    shift_hours: Floats
    shift_today: Floats
    accuracy_m: Floats
    jump_m: Floats
    free_at: Floats

    def on_shift(self, driver: Ints, time: Floats | float) -> Mask:
        """Whether the time falls in the hours these drivers keep, on days on which they work."""
        hour = local_hour(np.asarray(time, np.float64))
        result: Mask = (hour - self.shift_today[driver]) % 24 < self.shift_hours[driver]
        return result


@dataclass
class Population:
    """Everybody. Devices: one for each rider, spares, hotel and dormitory desks. Instruments: cards, then wallets."""

    riders: Riders
    drivers: Drivers
    device_accuracy_m: Floats
    spare_devices: list[int]
    used_devices: list[int]
    desk_devices: Ints
    rider_ids: list[str]
    driver_ids: list[str]
    device_ids: list[str]
    instrument_ids: list[str]

    def wallet(self, rider: Ints) -> Ints:
        """The wallet of each rider, as an instrument index."""
        result: Ints = rider + len(self.riders.city)
        return result

    def home(self, rider: Ints, rng: np.random.Generator) -> Place:
        """Where each rider is picked up at home, within a block."""
        return move(self.riders.home_lat[rider], self.riders.home_lon[rider], 60.0, rng)

    def favourite(self, rider: Ints, column: Ints, rng: np.random.Generator) -> Place:
        """One of the places that each rider goes to."""
        return move(self.riders.place_lat[rider, column], self.riders.place_lon[rider, column], 90.0, rng)


def populate(settings: WorldSettings, places: Map, reserve: int) -> Population:
    """Builds the population.

    Args:
        settings: the world's settings.
        places: its cities.
        reserve: accounts to prepare beside the honest ones, not signed up yet.
    """
    rng = settings.rng("population")
    drivers = _drivers(settings, places, rng)
    riders = _riders(settings, places, drivers, reserve, rng)
    n = len(riders.city)
    desks = _DESKS_PER_CITY * len(places.cities)
    spares = n // 2
    first_desk = n + spares
    devices = first_desk + desks + found_dormitories(riders, settings, first_desk + desks, rng)
    return Population(
        riders=riders,
        drivers=drivers,
        device_accuracy_m=_phone_accuracy(settings, devices, rng),
        spare_devices=list(range(n, first_desk)),
        used_devices=[],
        desk_devices=np.arange(first_desk, first_desk + desks).reshape(-1, _DESKS_PER_CITY),
        rider_ids=_ids("rider", n, rng),
        driver_ids=_ids("driver", settings.drivers, rng),
        device_ids=_ids("device", devices, rng),
        instrument_ids=_ids("pay", 2 * n, rng),
    )


def _ids(prefix: str, n: int, rng: np.random.Generator) -> list[str]:
    return [f"{prefix}-{number:06d}" for number in rng.permutation(n)]


def _phone_accuracy(settings: WorldSettings, n: int, rng: np.random.Generator) -> Floats:
    """Usual GPS radius of phones, metres; some are cheap and bad at it."""
    median = np.where(rng.random(n) < settings.cheap_phone_share, 26.0, 8.0)
    result: Floats = median * rng.lognormal(0.0, 0.25, n)
    return result


def _drivers(settings: WorldSettings, places: Map, rng: np.random.Generator) -> Drivers:
    n = settings.drivers
    city = rng.choice(len(places.cities), n, p=places.share)
    lat, lon = places.scatter(city, rng)
    accuracy = _phone_accuracy(settings, n, rng)
    start = rng.choice([5.8, 9.5, 13.5, 18.5], n, p=[0.4, 0.2, 0.3, 0.1]) + rng.normal(0, 0.6, n)
    return Drivers(
        city=city,
        zone_lat=lat,
        zone_lon=lon,
        shift_start=start,
        shift_hours=rng.uniform(7.5, 12.0, n),
        shift_today=start.copy(),
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
        churn_time=_churn(settings, signup, rng),
        device=np.arange(n),
        shared_device=np.arange(n),
        card=np.arange(n),
        likes_cash=rng.beta(1.2, 2.0, n),
        likes_card=rng.beta(2.0, 1.2, n),
        regular_driver=np.full(n, -1),
    )
    form_families(riders, settings, rng)
    find_regular_drivers(riders, drivers, settings.regular_pair_share, rng)
    return riders


def _churn(settings: WorldSettings, signup: Floats, rng: np.random.Generator) -> Floats:
    """When each rider stops riding, shape [n]: at a steady pace, never within a week of signing up."""
    time = rng.exponential(DAY_S / max(settings.churn_share, 1e-9), len(signup))
    time = np.maximum(time, signup + 7 * DAY_S)
    return np.where(time < settings.days * DAY_S, time, NEVER)
