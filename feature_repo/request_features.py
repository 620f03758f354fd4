"""Features that need nothing but the event and its city's norms; one function for training and serving."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from feature_repo.description import Description
from feature_repo.event_batch import EventBatch
from feature_repo.event_schemas import CATALOGUE

Vector = NDArray[np.float64]

EARTH_RADIUS_M = 6_371_008.8  # mean radius, IUGG
_DAY_S = 86_400
_IRAN_OFFSET_S = 12_600  # UTC+03:30, without daylight saving since 2022

_FIELD_UNITS = {
    "amount": "toman",
    "distance_m": "m",
    "duration_s": "s",
    "surge": "factor",
    "promo_applied": "0 or 1",
    "attempt": "attempts",
    "gps_accuracy_m": "m",
    "gps_max_jump_m": "m",
}


def _of_field(name: str) -> Description:
    """A feature that is a field of the event: the schema says what it means."""
    return Description(CATALOGUE.fields[name].description.rstrip("."), _FIELD_UNITS[name], "NaN, without the field")


_NEVER = "never"
_NO_NORM = "NaN, without either"
# In the order of the models' matrix.
REQUEST_DESCRIPTIONS: dict[str, Description] = {
    "hour_of_day": Description("Hour of the event in Iran (UTC+03:30)", "hour, 0 to 23", _NEVER),
    "day_of_week": Description("Weekday of the event in Iran, from Monday", "day, 0 to 6", _NEVER),
    "amount": _of_field("amount"),
    "distance_m": _of_field("distance_m"),
    "duration_s": _of_field("duration_s"),
    "surge": _of_field("surge"),
    "promo_applied": _of_field("promo_applied"),
    "attempt": _of_field("attempt"),
    "straight_line_m": Description("Great circle from pickup to drop-off", "m", "NaN, without places"),
    "detour_ratio": Description("Route length over the straight line", "ratio", "NaN, without a route or a distance"),
    "speed_kmh": Description("Route length over trip time", "km/h", "NaN, without a trip time"),
    "fare_per_km": Description("Amount over route length", "toman/km", "NaN, without a route"),
    "fare_per_km_vs_city": Description("fare_per_km over the city's city_fare_per_km", "ratio", _NO_NORM),
    "speed_vs_city": Description("speed_kmh over the city's city_speed_kmh", "ratio", _NO_NORM),
    "gps_accuracy_m": _of_field("gps_accuracy_m"),
    "gps_accuracy_vs_city": Description("gps_accuracy_m over the city's city_gps_accuracy_m", "ratio", _NO_NORM),
    "gps_max_jump_m": _of_field("gps_max_jump_m"),
    "has_payment_instrument": Description("Whether the event names a card or wallet", "0 or 1", _NEVER),
}
REQUEST_FEATURES: tuple[str, ...] = tuple(REQUEST_DESCRIPTIONS)


@dataclass(frozen=True)
class CityNorms:
    """What is usual in each event's city, arrays of shape [n]; NaN where unknown.

    Attributes:
        fare_per_km: median fare, toman per kilometre.
        speed_kmh: median trip speed, km/h.
        gps_accuracy_m: 90th percentile of the reported GPS radius, metres. It rises for everybody while a city
            is jammed, which keeps honest drivers from looking like spoofers.
    """

    fare_per_km: Vector
    speed_kmh: Vector
    gps_accuracy_m: Vector

    @classmethod
    def unknown(cls, n: int) -> CityNorms:
        """Norms of shape [n] for when the store has none."""
        return cls(np.full(n, np.nan), np.full(n, np.nan), np.full(n, np.nan))


def request_features(batch: EventBatch, norms: CityNorms) -> dict[str, Vector]:
    """Returns `REQUEST_FEATURES` by name, each of shape [n]; NaN where the event lacks the fields."""
    seconds = batch["event_timestamp"] // 1_000_000 + _IRAN_OFFSET_S
    amount = _optional(batch, "amount")
    distance = _optional(batch, "distance_m")
    duration = _optional(batch, "duration_s")
    accuracy = batch["gps_accuracy_m"]
    straight = haversine_m(batch["pickup_lat"], batch["pickup_lon"], batch["dropoff_lat"], batch["dropoff_lon"])
    speed = _ratio(distance * 3.6, duration)
    fare_per_km = _ratio(amount * 1000.0, distance)
    values = {
        "hour_of_day": (seconds % _DAY_S) // 3600,
        # The epoch was a Thursday; 0 is Monday.
        "day_of_week": (seconds // _DAY_S + 3) % 7,
        "amount": amount,
        "distance_m": distance,
        "duration_s": duration,
        "surge": batch["surge"],
        "promo_applied": _optional(batch, "promo_applied"),
        "attempt": _optional(batch, "attempt"),
        "straight_line_m": straight,
        "detour_ratio": _ratio(distance, straight),
        "speed_kmh": speed,
        "fare_per_km": fare_per_km,
        "fare_per_km_vs_city": _ratio(fare_per_km, norms.fare_per_km),
        "speed_vs_city": _ratio(speed, norms.speed_kmh),
        "gps_accuracy_m": accuracy,
        "gps_accuracy_vs_city": _ratio(accuracy, norms.gps_accuracy_m),
        "gps_max_jump_m": batch["gps_max_jump_m"],
        "has_payment_instrument": batch.present["payment_instrument_id"],
    }
    return {name: np.asarray(values[name], np.float64) for name in REQUEST_FEATURES}


def haversine_m(lat1: Vector, lon1: Vector, lat2: Vector, lon2: Vector) -> Vector:
    """Great-circle distance in metres between points in degrees (haversine formula); NaN in, NaN out."""
    phi1, phi2 = np.radians(lat1), np.radians(lat2)
    half_chord = np.sin((phi2 - phi1) / 2) ** 2
    half_chord += np.cos(phi1) * np.cos(phi2) * np.sin(np.radians(lon2 - lon1) / 2) ** 2
    result: Vector = 2 * EARTH_RADIUS_M * np.arcsin(np.sqrt(np.minimum(half_chord, 1.0)))
    return result


def _optional(batch: EventBatch, name: str) -> Vector:
    return np.where(batch.present[name], batch[name], np.nan)


def _ratio(numerator: Vector, denominator: Vector) -> Vector:
    """numerator / denominator, NaN where the denominator is zero or unknown."""
    with np.errstate(divide="ignore", invalid="ignore"):
        result: Vector = np.where(denominator > 0, numerator / denominator, np.nan)
    return result
