"""Pictures of the population, for researchers: who is who, lives where and owns what at one moment.

They tell nothing of anybody's part in a fraud, and list only accounts that exist at that moment.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, time

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from simulators.ride_hailing.geography import DAY_S, Ints, Mask
from simulators.ride_hailing.population import Population
from simulators.ride_hailing.settings import WorldSettings

SNAPSHOT_TABLES = ("riders", "drivers", "households", "device_ownership")
_TIME = pa.timestamp("us", "UTC")


def is_due(day: int, first_day: date, today: date) -> bool:
    """Whether a picture is taken before this day: on the world's first, and on the first of each month."""
    return day == 0 or (today.day == 1 and today > first_day)


def picture(settings: WorldSettings, people: Population, day: int) -> dict[str, pa.Table]:
    """The population at the start of day `day`, one table for each of SNAPSHOT_TABLES."""
    rider = np.flatnonzero(people.riders.signup_time < day * DAY_S)
    return {
        "riders": _riders(settings, people, rider),
        "drivers": _drivers(settings, people),
        "households": _households(people, rider),
        "device_ownership": _devices(people, rider),
    }


def _names(names: list[str], index: Ints) -> pa.Array:
    return pa.array(names, pa.string()).take(pa.array(index, pa.int64(), mask=index < 0))


def _riders(settings: WorldSettings, people: Population, rider: Ints) -> pa.Table:
    riders = people.riders
    start = round(datetime.combine(settings.first_day, time(), UTC).timestamp())
    # Accounts older than the world have no known date.
    joined = riders.signup_time[rider]
    stamp = pa.array((np.maximum(joined, 0) * 1e6).astype(np.int64) + start * 1_000_000, _TIME, mask=joined < 0)
    return pa.table(
        {
            "rider_id": _names(people.rider_ids, rider),
            "city": _names(list(settings.cities), riders.city[rider]),
            "signed_up_at": stamp,
            "home_lat": np.round(riders.home_lat[rider], 6),
            "home_lon": np.round(riders.home_lon[rider], 6),
            "commuter": riders.commuter[rider],
            "regular_driver_id": _names(people.driver_ids, riders.regular_driver[rider]),
            "card_id": _names(people.instrument_ids, riders.card[rider]),
            "wallet_id": _names(people.instrument_ids, people.wallet(rider)),
        }
    )


def _drivers(settings: WorldSettings, people: Population) -> pa.Table:
    drivers = people.drivers
    return pa.table(
        {
            "driver_id": pa.array(people.driver_ids, pa.string()),
            "city": _names(list(settings.cities), drivers.city),
            "zone_lat": np.round(drivers.zone_lat, 6),
            "zone_lon": np.round(drivers.zone_lon, 6),
            "shift_start_hour": np.round(drivers.shift_start, 2),
            "shift_hours": np.round(drivers.shift_hours, 2),
        }
    )


def _households(people: Population, rider: Ints) -> pa.Table:
    """Riders who share a card with others, each with the owner of the card, who names the household."""
    owner = people.riders.card[rider]
    size = np.bincount(people.riders.card)
    shared: Mask = (size[owner] > 1) & (owner < len(people.riders.city))
    return pa.table(
        {
            "household_id": _names(people.rider_ids, owner[shared]),
            "rider_id": _names(people.rider_ids, rider[shared]),
        }
    )


def _devices(people: Population, rider: Ints) -> pa.Table:
    """A row for each phone a rider uses: the own one, and the household's."""
    own, shared = people.riders.device[rider], people.riders.shared_device[rider]
    other = own != shared
    table = pa.table(
        {
            "rider_id": _names(people.rider_ids, np.concatenate([rider, rider[other]])),
            "device_id": _names(people.device_ids, np.concatenate([own, shared[other]])),
            "is_own": np.concatenate([np.ones(len(rider), np.bool_), np.zeros(int(other.sum()), np.bool_)]),
        }
    )
    return table.take(pc.sort_indices(table, [("rider_id", "ascending"), ("device_id", "ascending")]))
