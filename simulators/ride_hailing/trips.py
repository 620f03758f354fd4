"""What becomes of a request: quote, cancellation, ride, bill, and how good the GPS was."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from simulators.ride_hailing.geography import Floats, Ints, Map, Mask, distance_m, rush
from simulators.ride_hailing.hard_negatives import Disruptions
from simulators.ride_hailing.matching import match_drivers
from simulators.ride_hailing.population import Population
from simulators.ride_hailing.requests import REFERRAL, WELCOME, Requests
from simulators.ride_hailing.settings import WorldSettings

CANCELLED_BY = ("rider", "driver", "system")
NOT_CANCELLED, BY_SYSTEM = -1, 2
REFUND_REASONS = ("overcharged", "trip_not_taken", "item_lost", "driver_behaviour", "other")
REQUEST, OUTCOME, PAYMENT, CLAIM = range(4)  # columns of Trips.marks
_REFUND_SHARES = (0.4, 0.2, 0.1, 0.15, 0.15)
_ROAD_FACTOR = 1.32  # road length over straight line


@dataclass(frozen=True)
class Trips:
    """n requests and their outcomes, arrays of shape [n].

    Attributes:
        city: city codes.
        driver: the matched driver, or -1.
        distance_m, duration_s, surge, fare: as quoted.
        cancelled_by: index in CANCELLED_BY, or NOT_CANCELLED.
        ended: when the trip was completed, seconds since the first midnight.
        billed_*: as billed, before the discount.
        discount: what the promotion takes off the bill, toman.
        attempt: tries that the charge took; `retries`: further charges of a bill left open, hours later.
        claimed: whether a refund is claimed; `claim_*`: how long after the end, which part of the bill, and why.
        marks: typology codes of the request (and its promotion), the outcome, the payment and the claim, [n, 4]:
            a driver can cheat on an honest request, and a rider on an honest drive.
        ring: the ring behind whatever is marked, or -1.
    """

    requests: Requests
    city: Ints
    driver: Ints
    distance_m: Floats
    duration_s: Floats
    surge: Floats
    fare: Floats
    accuracy_m: Floats
    cancelled_by: Ints
    seconds_to_cancel: Floats
    ended: Floats
    billed_distance_m: Floats
    billed_duration_s: Floats
    billed_fare: Floats
    discount: Floats
    end_accuracy_m: Floats
    jump_m: Floats
    attempt: Ints
    retries: Ints
    claimed: Mask
    claim_after_s: Floats
    claim_share: Floats
    claim_reason: Ints
    marks: Ints
    ring: Ints

    @property
    def completed(self) -> Mask:
        """Which trips were driven to the end."""
        result: Mask = self.cancelled_by == NOT_CANCELLED
        return result

    @property
    def honest(self) -> Mask:
        """Which trips nobody has cheated on in any way."""
        return np.asarray(self.typology == 0)

    @property
    def typology(self) -> Ints:
        """Typology code of whoever cheated on each trip in any way, 0 where nobody did."""
        result: Ints = self.marks.max(axis=1)
        return result

    @property
    def paid(self) -> Floats:
        """The bill less the discount, toman."""
        return np.maximum(self.billed_fare - self.discount, 0.0)


def ride(settings: WorldSettings, disruptions: Disruptions, people: Population, requests: Requests, day: int) -> Trips:
    """Plays n requests (in time order) of day `day` to their end."""
    places = disruptions.places
    rng = settings.rng("trips", day)
    city = people.riders.city[requests.rider]
    distance, duration = _plan(places, city, requests, rng)
    surge = _surge(requests.time, rng)
    fare = price(places, city, distance, duration, surge)
    driver = match_drivers(settings, people, requests, duration, day)
    cancelled_by, seconds = _cancellations(driver, rng)
    jammed = places.jammed(city, requests.time)
    ends = (requests.pickup_lat, requests.pickup_lon), (requests.dropoff_lat, requests.dropoff_lon)
    closed = disruptions.closed(day, city, ends)
    billed_distance, billed_duration = _drive(distance, duration, jammed, closed, rng)
    accuracy, end_accuracy, jump = _gps(people, requests.device, driver, jammed, rng)
    billed = price(places, city, billed_distance, billed_duration, surge)
    # An ordinary bill is the quote; only a changed route (more than a fifth) is billed as driven.
    billed = np.where(np.abs(billed_distance / distance - 1) < 0.2, fare, billed)
    return Trips(
        requests=requests,
        city=city,
        driver=driver,
        distance_m=distance,
        duration_s=duration,
        surge=surge,
        fare=fare,
        accuracy_m=accuracy,
        cancelled_by=cancelled_by,
        seconds_to_cancel=seconds,
        ended=requests.time + rng.uniform(90, 480, len(requests)) + billed_duration,
        billed_distance_m=billed_distance,
        billed_duration_s=billed_duration,
        billed_fare=billed,
        discount=_discount(requests.promo, fare, rng),
        end_accuracy_m=end_accuracy,
        jump_m=jump,
        **_charges(disruptions.outage(requests.time + billed_duration), rng),
        **_claims(requests, billed_distance / distance, rng),
        marks=np.repeat(requests.typology[:, None], 4, axis=1),
        ring=requests.ring.copy(),
    )


def price(places: Map, city: Ints, distance: Floats, duration: Floats, surge: Floats) -> Floats:
    """Fare in toman, shape [n], rounded to 500 as the tariffs are."""
    base, per_km, per_min = (places.attribute(part, city) for part in ("base_fare", "fare_per_km", "fare_per_min"))
    result: Floats = np.round((base + per_km * distance / 1000 + per_min * duration / 60) * surge / 500) * 500
    return result


def change(trips: Trips, index: Ints, **columns: Any) -> Trips:
    """The trips with some columns replaced at `index`."""
    changed = {name: getattr(trips, name).copy() for name in columns}
    for name, values in columns.items():
        changed[name][index] = values
    return replace(trips, **changed)


def mark(trips: Trips, index: Ints, code: int, ring: Any, *events: int) -> Trips:
    """The trips with those at `index` marked as cheated on in these events (REQUEST, OUTCOME and so on)."""
    marks = trips.marks.copy()
    marks[index[:, None], list(events)] = code
    return change(replace(trips, marks=marks), index, ring=ring)


def _charges(outage: Mask, rng: np.random.Generator) -> dict[str, Any]:
    """Tries that each charge takes, and charges repeated later: few, and many for everybody while banks are down."""
    n = len(outage)
    return {
        "attempt": np.minimum(rng.geometric(np.where(outage, 0.4, 0.93)), 8),
        "retries": np.where(rng.random(n) < np.where(outage, 0.35, 0.012), 1, 0),
    }


def _claims(requests: Requests, detour: Floats, rng: np.random.Generator) -> dict[str, Any]:
    """Refund claims: one honest trip in fifty, one in eight after a detour, and some after staged trips."""
    n = len(requests)
    likely = np.select([requests.typology > 0, detour > 1.3], [0.06, 0.12], 0.02)
    return {
        "claimed": rng.random(n) < likely,
        "claim_after_s": np.clip(rng.exponential(8 * 3600, n), 300, 40 * 3600),
        "claim_share": np.where(rng.random(n) < 0.35, 1.0, rng.uniform(0.15, 0.9, n)),
        "claim_reason": rng.choice(len(REFUND_REASONS), n, p=_REFUND_SHARES),
    }


def _plan(places: Map, city: Ints, requests: Requests, rng: np.random.Generator) -> tuple[Floats, Floats]:
    straight = distance_m(requests.pickup_lat, requests.pickup_lon, requests.dropoff_lat, requests.dropoff_lon)
    distance = 350.0 + straight * _ROAD_FACTOR * rng.lognormal(0.0, 0.13, len(city))
    speed = places.attribute("speed_kmh", city) / 3.6 * (1 - 0.4 * rush(requests.time))
    return distance, 90.0 + distance / speed * rng.lognormal(0.0, 0.15, len(city))


def _surge(time: Floats, rng: np.random.Generator) -> Floats:
    demand = 0.85 + 0.5 * rush(time) + rng.gamma(2.0, 0.08, len(time))
    result: Floats = np.round(np.clip(demand, 1.0, 3.0), 1).astype(np.float64)
    return result


def _cancellations(driver: Ints, rng: np.random.Generator) -> tuple[Ints, Floats]:
    n = len(driver)
    who = rng.choice([NOT_CANCELLED, 0, 1, BY_SYSTEM], n, p=[0.87, 0.08, 0.04, 0.01])
    who = np.where(driver < 0, BY_SYSTEM, who)
    return who, np.clip(rng.lognormal(4.9, 0.8, n), 3, 3000)


def _drive(
    distance: Floats, duration: Floats, jammed: Mask, closed: Mask, rng: np.random.Generator
) -> tuple[Floats, Floats]:
    n = len(distance)
    route = rng.lognormal(0.02, 0.07, n)
    # Closed roads, a second stop, a lost driver: honest detours, long as a cheat's.
    detour = np.where(rng.random(n) < np.where(closed, 0.7, 0.07), rng.uniform(1.15, 1.9, n), 1.0)
    noise = np.where(jammed, rng.uniform(0.85, 1.5, n), 1.0)
    return distance * route * detour * noise, duration * route * detour * rng.lognormal(0.0, 0.18, n)


def _gps(
    people: Population, device: Ints, driver: Ints, jammed: Mask, rng: np.random.Generator
) -> tuple[Floats, Floats, Floats]:
    """Radius on request (rider's phone), radius and longest jump on completion (driver's phone), metres."""
    n = len(device)
    jam = np.where(jammed, rng.lognormal(2.6, 0.6, n), 1.0)
    rider_m = people.device_accuracy_m[device] * rng.lognormal(0.0, 0.35, n) * jam
    driver_m = people.drivers.accuracy_m[driver] * rng.lognormal(0.0, 0.3, n) * jam
    tunnel = np.where(rng.random(n) < 0.08, rng.lognormal(1.5, 0.6, n), 1.0)
    jump = people.drivers.jump_m[driver] * rng.lognormal(0.0, 0.5, n) * tunnel * jam
    return rider_m, driver_m, jump


def _discount(promo: Ints, fare: Floats, rng: np.random.Generator) -> Floats:
    rate = np.select([promo == WELCOME, promo == REFERRAL], [0.35, 0.32], 0.3) * rng.uniform(0.7, 1.3, len(promo))
    cap = np.select([promo == WELCOME, promo == REFERRAL], [40_000, 39_000], 38_000)
    discount = np.clip(np.round(rate * fare / 1000) * 1000, 8_000, cap)
    return np.where(promo > 0, discount, 0.0)
