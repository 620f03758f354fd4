"""Turns trips and account changes into event rows of the catalogue's shape."""

from __future__ import annotations

from datetime import UTC, datetime, time
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from feature_repo.event_schemas import CATALOGUE
from simulators.ride_hailing.accounts import CHANGES, AccountChanges
from simulators.ride_hailing.geography import Floats, Ints, Mask
from simulators.ride_hailing.population import Population
from simulators.ride_hailing.requests import PAYMENT_METHODS, PROMO_CODES
from simulators.ride_hailing.settings import TYPOLOGIES, WorldSettings
from simulators.ride_hailing.trips import CANCELLED_BY, CLAIM, OUTCOME, PAYMENT, REFUND_REASONS, REQUEST, Trips

_ARROW = {"string": pa.string(), "integer": pa.int64(), "number": pa.float64(), "boolean": pa.bool_()}
_TIME = pa.timestamp("us", "UTC")
EVENT_SCHEMA = pa.schema(
    [(name, _TIME if name == "event_timestamp" else _ARROW[spec.json_type]) for name, spec in CATALOGUE.fields.items()]
    + [("sent_at", _TIME)]
)
# What the writer takes off before anything is published.
TRUTH_FIELDS = ("typology", "ring_id")
_FULL_SCHEMA = pa.schema([*EVENT_SCHEMA, *((name, pa.string()) for name in TRUTH_FIELDS)])
_HONEST = (None, *TYPOLOGIES)

Columns = dict[str, Any]


class Emitter:
    """Writes what happened as events, with ids that say nothing about the order or the part of the story."""

    def __init__(self, settings: WorldSettings, people: Population) -> None:
        self._settings = settings
        self._people = people
        self._cities = np.array(settings.cities, object)
        first = datetime.combine(settings.first_day, time(), UTC)
        self._start_us = round(first.timestamp()) * 1_000_000

    def emit(self, trips: Trips, changes: AccountChanges, day: int) -> pa.Table:
        """All events that these trips and changes lead to, refunds of later days included.

        Returns:
            A table with the columns of EVENT_SCHEMA and TRUTH_FIELDS, in no particular order.
        """
        rng = self._settings.rng("emission", day)
        trip_ids = _ids("trip", day, len(trips.city), self._settings.seed)
        tables = [
            self._requested(trips, trip_ids),
            self._cancelled(trips, trip_ids),
            self._completed(trips, trip_ids),
            *self._paid(trips, trip_ids, rng),
            self._promoted(trips, rng),
            self._refunded(trips, trip_ids),
            self._changed(changes),
        ]
        events = pa.concat_tables([_complete(t) for t in tables])
        ids = _ids("evt", day, events.num_rows, self._settings.seed)
        events = events.set_column(0, "event_id", pa.array(ids))
        sent = pa.array(self._sent(events["event_timestamp"], rng), _TIME)
        return events.set_column(events.schema.get_field_index("sent_at"), "sent_at", sent)

    def _sent(self, happened: pa.ChunkedArray, rng: np.random.Generator) -> NDArray[np.int64]:
        """When the producer published each event: at once, or minutes to hours late."""
        n = len(happened)
        delay = rng.gamma(2.0, 0.15, n)
        late = rng.random(n) < self._settings.late_share
        delay = np.where(late, np.clip(rng.lognormal(7.5, 1.0, n), 120, 6 * 3600), delay)
        sent: NDArray[np.int64] = happened.cast(pa.int64()).to_numpy() + np.round(delay * 1e6).astype(np.int64)
        return sent

    def _envelope(
        self, event_type: str, seconds: Floats, rider: Ints, device: Ints, *, typology: Ints, ring: Ints
    ) -> Columns:
        stamp = np.round(seconds * 1e3).astype(np.int64) * 1000 + self._start_us
        people = self._people
        return {
            "event_type": np.full(len(rider), event_type, object),
            "event_timestamp": pa.array(stamp, _TIME),
            "rider_id": _names(people.rider_ids, rider),
            "device_id": _names(people.device_ids, device),
            "city": self._cities[people.riders.city[rider]],
            "typology": _names(_HONEST, typology),
            "ring_id": pa.array([f"ring-{r:04d}" if r >= 0 else None for r in ring], pa.string()),
        }

    def _of_trip(self, event_type: str, trips: Trips, at: Floats, keep: Mask, part: int) -> Columns:
        asked = trips.requests
        typology = trips.marks[:, part]
        ring = np.where(typology > 0, trips.ring, -1)
        columns = self._envelope(
            event_type, at[keep], asked.rider[keep], asked.device[keep], typology=typology[keep], ring=ring[keep]
        )
        columns["driver_id"] = _names(self._people.driver_ids, trips.driver[keep])
        columns["payment_instrument_id"] = _names(self._people.instrument_ids, asked.instrument[keep])
        return columns

    def _route(self, trips: Trips, keep: Mask) -> Columns:
        asked = trips.requests
        places = ("pickup_lat", "pickup_lon", "dropoff_lat", "dropoff_lon")
        columns: Columns = {name: np.round(getattr(asked, name)[keep], 6) for name in places}
        columns["payment_method"] = _names(PAYMENT_METHODS, asked.method[keep])
        columns["promo_applied"] = asked.promo[keep] > 0
        return columns

    def _requested(self, trips: Trips, ids: NDArray[Any]) -> Columns:
        every = np.ones(len(ids), np.bool_)
        return {
            **self._of_trip("trip_requested", trips, trips.requests.time, every, REQUEST),
            **self._route(trips, every),
            "trip_id": ids,
            "distance_m": _whole(trips.distance_m),
            "duration_s": _whole(trips.duration_s),
            "amount": _whole(trips.fare),
            "gps_accuracy_m": np.round(trips.accuracy_m, 1),
            "surge": trips.surge,
        }

    def _cancelled(self, trips: Trips, ids: NDArray[Any]) -> Columns:
        keep = ~trips.completed
        return {
            **self._of_trip("trip_cancelled", trips, trips.requests.time + trips.seconds_to_cancel, keep, OUTCOME),
            "trip_id": ids[keep],
            "cancelled_by": _names(CANCELLED_BY, trips.cancelled_by[keep]),
            "seconds_to_cancel": _whole(trips.seconds_to_cancel[keep]),
        }

    def _completed(self, trips: Trips, ids: NDArray[Any]) -> Columns:
        keep = trips.completed
        return {
            **self._of_trip("trip_completed", trips, trips.ended, keep, OUTCOME),
            **self._route(trips, keep),
            "trip_id": ids[keep],
            "distance_m": _whole(trips.billed_distance_m[keep]),
            "duration_s": _whole(trips.billed_duration_s[keep]),
            "amount": _whole(trips.paid[keep]),
            "gps_accuracy_m": np.round(trips.end_accuracy_m[keep], 1),
            "gps_max_jump_m": np.round(trips.jump_m[keep], 1),
        }

    def _paid(self, trips: Trips, ids: NDArray[Any], rng: np.random.Generator) -> list[Columns]:
        """The charge at the trip's end, and those repeated hours later where the bill stayed open."""
        charged = trips.completed & (trips.requests.instrument >= 0)
        at = trips.ended + trips.attempt * rng.uniform(2, 40, len(ids))
        rounds = []
        for retry in range(int(trips.retries.max(initial=0)) + 1):
            keep = charged & (trips.retries >= retry)
            rounds.append(self._charge(trips, ids, at, trips.attempt + retry, keep))
            at = at + rng.uniform(1800, 6 * 3600, len(ids))
        return rounds

    def _charge(self, trips: Trips, ids: NDArray[Any], at: Floats, attempt: Ints, keep: Mask) -> Columns:
        return {
            **self._of_trip("payment_authorized", trips, at, keep, PAYMENT),
            "trip_id": ids[keep],
            "amount": _whole(trips.paid[keep]),
            "payment_method": _names(PAYMENT_METHODS, trips.requests.method[keep]),
            "attempt": attempt[keep],
        }

    def _promoted(self, trips: Trips, rng: np.random.Generator) -> Columns:
        keep = trips.requests.promo > 0
        at = trips.requests.time - rng.uniform(5, 60, len(keep))
        columns = self._of_trip("promo_redeemed", trips, at, keep, REQUEST)
        del columns["driver_id"]  # nobody is matched yet
        codes = _names(PROMO_CODES, trips.requests.promo[keep])
        return {**columns, "promo_code": codes, "amount": _whole(trips.discount[keep])}

    def _refunded(self, trips: Trips, ids: NDArray[Any]) -> Columns:
        keep = trips.completed & trips.claimed
        return {
            **self._of_trip("refund_claimed", trips, trips.ended + trips.claim_after_s, keep, CLAIM),
            "trip_id": ids[keep],
            "amount": _whole(np.maximum(trips.paid * trips.claim_share, 1000.0)[keep]),
            "reason": _names(REFUND_REASONS, trips.claim_reason[keep]),
        }

    def _changed(self, changes: AccountChanges) -> Columns:
        return {
            **self._envelope(
                "account_changed",
                changes.time,
                changes.rider,
                changes.device,
                typology=changes.typology,
                ring=changes.ring,
            ),
            "change": _names(CHANGES, changes.change),
        }


def _complete(columns: Columns) -> pa.Table:
    n = len(columns["event_type"])
    arrays = []
    for field in _FULL_SCHEMA:
        given = columns.get(field.name)
        arrays.append(pa.nulls(n, field.type) if given is None else pa.array(given, field.type))
    return pa.Table.from_arrays(arrays, schema=_FULL_SCHEMA)


def _names(names: Any, index: Ints) -> pa.Array:
    """Names by index; null where the index is negative."""
    return pa.array(names, pa.string()).take(pa.array(index, pa.int64(), mask=index < 0))


def _whole(values: Floats) -> NDArray[np.int64]:
    return np.round(values).astype(np.int64)


def _ids(prefix: str, day: int, n: int, seed: int) -> NDArray[Any]:
    """n ids, unique over days: splitmix64 (Steele et al., 2014) is a bijection of the counter."""
    x = (np.arange(n, dtype=np.uint64) + np.uint64(day << 32)) * np.uint64(0x9E3779B97F4A7C15)
    x ^= np.uint64(seed & 0xFFFFFFFF) + np.uint64(len(prefix) << 40)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    x ^= x >> np.uint64(31)
    return np.array([f"{prefix}-{value:016x}" for value in x.tolist()], object)
