"""What the windowed activity of `tiles.py` means."""

from __future__ import annotations

from dataclasses import replace

from feature_repo.description import Description
from feature_repo.tiles import ACTIVITY_KINDS, LONGEST_WINDOW_S, SKETCH_K, WINDOWS, ActivityKind

# Measure -> what is counted, and the unit.
_MEASURES: dict[str, tuple[str, str]] = {
    "rider_requests": ("Trips that the rider asked for", "requests"),
    "rider_trips": ("Trips that the rider completed", "trips"),
    "rider_cancels": ("Trips of the rider that were called off, by whomever", "cancellations"),
    "rider_payments": ("Charges put to the rider", "charges"),
    "rider_promos": ("Promotions that the rider redeemed", "promotions"),
    "rider_refunds": ("Refunds that the rider claimed", "claims"),
    "rider_changes": ("Changes of the rider's account, signing up included", "changes"),
    "rider_fare_sum": ("Fares billed to the rider", "toman"),
    "rider_drivers": ("Distinct drivers in the rider's events", "drivers"),
    "driver_trips": ("Trips that the driver completed", "trips"),
    "driver_cancels": ("Trips of the driver that were called off, by whomever", "cancellations"),
    "driver_refunds": ("Refunds claimed for trips with the driver", "claims"),
    "driver_fare_sum": ("Fares billed for the driver's trips", "toman"),
    "driver_riders": ("Distinct riders in the driver's events", "riders"),
    "device_trips": ("Completed trips whose rider used the device", "trips"),
    "device_promos": ("Promotions redeemed on the device", "promotions"),
    "device_changes": ("Account changes made on the device, signing up included", "changes"),
    "device_riders": ("Distinct riders in the device's events", "riders"),
    "payment_instrument_payments": ("Charges put to the payment instrument", "charges"),
    "payment_instrument_amount_sum": ("Sum of the charges put to the payment instrument", "toman"),
    "payment_instrument_riders": ("Distinct riders in the payment instrument's events", "riders"),
    "pair_trips": ("Trips that the rider completed with this driver", "trips"),
    "pair_fare_sum": ("Fares billed for the rider's trips with this driver", "toman"),
}
_AGES: dict[str, str] = {
    "rider": "Time since the rider's latest event",
    "driver": "Time since the driver's latest event",
    "device": "Time since the device's latest event",
    "payment_instrument": "Time since the payment instrument's latest event",
    "pair": "Time since the rider and this driver last shared an event",
}
TILES = {300: "5 minutes", 3600: "1 hour", 86_400: "1 day"}


def measures(kind: ActivityKind) -> dict[str, Description]:
    """What each measure of `kind` counts, by its name without a window, such as `rider_trips`."""
    counted = {f"{kind.name}_{m.name}": ", ".join(m.event_types) for m in kind.measures}
    if kind.distinct:
        counted[f"{kind.name}_{kind.distinct}"] = f"any event type; exact below {SKETCH_K}"
    found = {}
    for name, events in counted.items():
        text, unit = _MEASURES[name]
        found[name] = Description(f"{text} ({events})", unit, "0, without a past")
    return found


def age(kind: ActivityKind) -> Description:
    """What `<kind>_age_s` measures."""
    return Description(
        f"{_AGES[kind.name]} (any event type), up to 30 days", "s", f"{LONGEST_WINDOW_S}, without a past"
    )


def activity_descriptions() -> dict[str, Description]:
    """Every one of `ACTIVITY_FEATURES`, with its window and the tiles that it is made of."""
    found: dict[str, Description] = {}
    for kind in ACTIVITY_KINDS.values():
        for name, measure in measures(kind).items():
            for window in WINDOWS:
                text = f"{measure.text}, over {window.name} in tiles of {TILES[window.tile_s]}"
                found[f"{name}_{window.name}"] = replace(measure, text=text)
        found[f"{kind.name}_age_s"] = age(kind)
    return found
