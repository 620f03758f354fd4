"""The words of reasons: what event types, entities, measures and request features are called."""

from __future__ import annotations

from collections.abc import Mapping

# Entity kind -> noun.
NOUNS: Mapping[str, str] = {
    "rider": "rider",
    "driver": "driver",
    "device": "device",
    "payment_instrument": "card or wallet",
}
# Event type -> one, many.
EVENT_NOUNS: Mapping[str, tuple[str, str]] = {
    "trip_requested": ("trip request", "trip requests"),
    "trip_completed": ("completed trip", "completed trips"),
    "trip_cancelled": ("cancelled trip", "cancelled trips"),
    "payment_authorized": ("payment", "payments"),
    "promo_redeemed": ("redeemed promotion", "redeemed promotions"),
    "refund_claimed": ("refund claim", "refund claims"),
    "account_changed": ("account change", "account changes"),
}
# Entity -> how a count relates to it, and who is like it.
ENTITIES: Mapping[str, tuple[str, str]] = {
    "rider": ("of this rider", "riders like this"),
    "driver": ("of this driver", "drivers like this"),
    "device": ("on this device", "devices like this"),
    "payment_instrument": ("on this card or wallet", "cards and wallets like this"),
    "pair": ("with this driver", "riders like this"),
}
# Measure -> one, many; a sum of money has its own form.
COUNTS: Mapping[str, tuple[str, str]] = {
    "requests": ("trip request", "trip requests"),
    "trips": ("trip", "trips"),
    "cancels": ("cancelled trip", "cancelled trips"),
    "payments": ("charge", "charges"),
    "promos": ("redeemed promotion", "redeemed promotions"),
    "refunds": ("refund claim", "refund claims"),
    "changes": ("account change", "account changes"),
    "drivers": ("driver", "different drivers"),
    "riders": ("rider", "different riders"),
}
SUMS: Mapping[str, str] = {"fare_sum": "fares", "amount_sum": "charges"}
# Where the entity's own relation would say something else.
RELATIONS: Mapping[tuple[str, str], str] = {
    ("rider", "payments"): "to this rider",
    ("rider", "fare_sum"): "billed to this rider",
    ("driver", "refunds"): "for trips of this driver",
    ("driver", "fare_sum"): "for trips of this driver",
    ("pair", "fare_sum"): "for trips with this driver",
}
# What a request feature is made of, where it is no field itself; hours, weekdays and ids are in every event.
FIELDS: Mapping[str, tuple[str, ...]] = {
    "hour_of_day": (),
    "day_of_week": (),
    "straight_line_m": ("pickup_lat", "dropoff_lat"),
    "detour_ratio": ("distance_m", "pickup_lat", "dropoff_lat"),
    "speed_kmh": ("distance_m", "duration_s"),
    "fare_per_km": ("amount", "distance_m"),
    "fare_per_km_vs_city": ("amount", "distance_m"),
    "speed_vs_city": ("distance_m", "duration_s"),
    "gps_accuracy_vs_city": ("gps_accuracy_m",),
    "has_payment_instrument": (),
}
# Request feature -> group, sentence with the value in it, and its name where the value is unknown.
REQUEST: Mapping[str, tuple[str, str, str]] = {
    "hour_of_day": ("hour_of_day", "it happened {}", "the hour"),
    "day_of_week": ("day_of_week", "it happened on a {}", "the weekday"),
    "amount": ("amount", "amount of {}", "the amount"),
    "distance_m": ("distance", "route of {}", "the route's length"),
    "duration_s": ("duration", "trip time of {}", "the trip time"),
    "surge": ("surge", "price multiplier of {}", "the price multiplier"),
    "promo_applied": ("promo_applied", "{} promotion lowers the fare", "whether a promotion applies"),
    "attempt": ("attempt", "{} at this charge", "the number of attempts"),
    "straight_line_m": ("straight_line", "{} from pickup to drop-off as the crow flies", "the distance of the places"),
    "detour_ratio": ("detour", "route {} as long as the straight line", "the detour"),
    "speed_kmh": ("speed", "average speed of {}", "the speed"),
    "fare_per_km": ("fare_per_km", "price of {}", "the price per km"),
    "fare_per_km_vs_city": ("fare_per_km", "price per km {} the city's", "the price per km against the city's"),
    "speed_vs_city": ("speed", "average speed {} the city's", "the speed against the city's"),
    "gps_accuracy_m": ("gps_accuracy", "GPS uncertain by {}", "the GPS accuracy"),
    "gps_accuracy_vs_city": ("gps_accuracy", "GPS uncertainty {} the city's", "the GPS accuracy against the city's"),
    "gps_max_jump_m": ("gps_max_jump", "a GPS jump of {}", "the longest GPS jump"),
    "has_payment_instrument": ("payment_instrument", "{} card or wallet is named", "whether a card or wallet is named"),
}


def article(noun: str) -> str:
    """ "a" or "an"."""
    return "an" if noun[0] in "aeiou" else "a"
