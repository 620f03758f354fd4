"""Cities and clocks: where trips happen, how fast and at what price, and when GPS is jammed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simulators.ride_hailing.schedule import Schedule
from simulators.ride_hailing.settings import CityName, WorldSettings

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]
Place = tuple[Floats, Floats]  # latitudes and longitudes, shape [n] each

DAY_S = 86_400.0
UTC_OFFSET_H = 3.5  # Iran, without daylight saving since 2022
_M_PER_DEGREE = 111_195.0


@dataclass(frozen=True)
class City:
    """A city: its centre, its size (standard deviation of homes, km), its tariff (toman) and its speed."""

    name: CityName
    lat: float
    lon: float
    spread_km: float
    share: float
    base_fare: float
    fare_per_km: float
    fare_per_min: float
    speed_kmh: float


_CITIES: dict[CityName, City] = {
    "tehran": City("tehran", 35.72, 51.40, 6.5, 0.50, 18_000, 6_500, 700, 26.0),
    "mashhad": City("mashhad", 36.30, 59.58, 4.8, 0.28, 14_000, 5_200, 550, 31.0),
    "isfahan": City("isfahan", 32.65, 51.67, 4.4, 0.22, 13_500, 5_400, 580, 30.0),
}
# Trips that are neither to nor from work, by local hour.
_HOURLY = np.array([3, 2, 1, 1, 1, 2, 4, 6, 7, 7, 7, 8, 9, 8, 7, 7, 8, 10, 11, 12, 12, 10, 8, 5], float)


class Map:
    """The cities of one world as arrays indexed by city code, and the hours in which each is jammed."""

    def __init__(self, settings: WorldSettings) -> None:
        self.cities = [_CITIES[name] for name in settings.cities]
        shares = np.array([c.share for c in self.cities])
        self.share: Floats = shares / shares.sum()
        self._jams = [_jams(settings, code) for code in range(len(self.cities))]

    def attribute(self, name: str, city: Ints) -> Floats:
        """Attribute `name` of each city code, shape [n]."""
        values: Floats = np.array([getattr(c, name) for c in self.cities], np.float64)[city]
        return values

    def scatter(self, city: Ints, rng: np.random.Generator) -> tuple[Floats, Floats]:
        """Random places, (latitude, longitude) of shape [n], dense at each city's centre."""
        spread = self.attribute("spread_km", city) * 1000.0
        return move(self.attribute("lat", city), self.attribute("lon", city), spread, rng)

    def jammed(self, city: Ints, time: Floats) -> Mask:
        """Whether GPS is jammed in the city at that time, shape [n]."""
        result = np.zeros(len(time), np.bool_)
        for code, (start, end) in enumerate(self._jams):
            inside = np.searchsorted(start, time, "right") != np.searchsorted(end, time, "right")
            result |= (city == code) & inside
        return result


def _jams(settings: WorldSettings, code: int) -> tuple[Floats, Floats]:
    """Starts and ends (seconds) of a city's jamming: an afternoon or so on some days, and on those planned."""
    rng = settings.rng("jamming", code)
    schedule = Schedule(settings)
    planned = [schedule.jamming(settings.cities[code], day) for day in range(settings.days)]
    days = np.flatnonzero((rng.random(settings.days) < settings.jamming_share) | np.array(planned))
    start = days * DAY_S + rng.uniform(2, 15, len(days)) * 3600
    return start, start + rng.uniform(2, 6, len(days)) * 3600


def move(lat: Floats, lon: Floats, sigma_m: Any, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Displaces places by a normal distance of `sigma_m` metres along each axis."""
    north, east = rng.normal(size=(2, len(lat))) * sigma_m / _M_PER_DEGREE
    return lat + north, lon + east / np.cos(np.radians(lat))


def distance_m(lat1: Floats, lon1: Floats, lat2: Any, lon2: Any) -> Floats:
    """Equirectangular distance in metres: within 0.1 % of the great circle inside a city."""
    east = (lon2 - lon1) * np.cos(np.radians(lat1))
    result: Floats = np.hypot(lat2 - lat1, east) * _M_PER_DEGREE
    return result


def at_local_hour(day: int, hour: Floats) -> Floats:
    """Seconds since the world's first midnight (UTC) of a local hour, wrapped into UTC day `day`."""
    return day * DAY_S + ((hour - UTC_OFFSET_H) % 24) * 3600.0


def local_hour(time: Floats) -> Floats:
    """Local hour of day, 0 <= h < 24, of seconds since the first midnight (UTC)."""
    result: Floats = (time / 3600.0 + UTC_OFFSET_H) % 24
    return result


def leisure_times(day: int, n: int, rng: np.random.Generator) -> Floats:
    """Times of n trips of no fixed hour."""
    hours = rng.choice(24, n, p=_HOURLY / _HOURLY.sum()) + rng.random(n)
    return at_local_hour(day, hours)


def rush(time: Floats) -> Floats:
    """How much of a rush hour it is, 0 to 1."""
    hour = local_hour(time)
    result: Floats = np.exp(-(((hour - 8.0) / 1.3) ** 2)) + np.exp(-(((hour - 18.2) / 1.8) ** 2))
    return result
