"""Trips asked for, honest or not, as one table of arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from simulators.ride_hailing.geography import Floats, Ints, Mask, Place
from simulators.ride_hailing.population import Population

PAYMENT_METHODS = ("cash", "card", "wallet")
CASH, CARD, WALLET = range(3)
PROMO_CODES = ("", "SPRING", "WELCOME", "FRIEND")
NO_PROMO, SEASONAL, WELCOME, REFERRAL = range(4)


@dataclass(frozen=True)
class Requests:
    """n trip requests, arrays of shape [n].

    Attributes:
        time: seconds since the world's first midnight, UTC.
        driver: the driver asked for, or -1 for whoever is near.
        instrument: -1 for cash.
        typology: 0 honest, else 1 + index in TYPOLOGIES.
        ring: the ring behind it, or -1.
    """

    time: Floats
    rider: Ints
    driver: Ints
    device: Ints
    method: Ints
    instrument: Ints
    promo: Ints
    pickup_lat: Floats
    pickup_lon: Floats
    dropoff_lat: Floats
    dropoff_lon: Floats
    typology: Ints
    ring: Ints

    def __len__(self) -> int:
        return len(self.time)


def concat(parts: Sequence[Requests]) -> Requests:
    """All requests of the parts, in time order."""
    columns = {f.name: np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(Requests)}
    order = np.argsort(columns["time"], kind="stable")
    return Requests(**{name: column[order] for name, column in columns.items()})


def pay(people: Population, rider: Ints, rng: np.random.Generator) -> tuple[Ints, Ints]:
    """How each rider pays this time: (method, instrument), shape [n]."""
    riders = people.riders
    cash = rng.random(len(rider)) < riders.likes_cash[rider]
    card = rng.random(len(rider)) < riders.likes_card[rider]
    method = np.where(cash, CASH, np.where(card, CARD, WALLET))
    return method, instrument_of(people, rider, method, riders.card[rider])


def instrument_of(people: Population, rider: Ints, method: Ints, card: Any) -> Ints:
    """The instrument a method stands for: nothing, the given card, or the rider's own wallet."""
    return np.where(method == CASH, -1, np.where(method == CARD, card, people.wallet(rider)))


def pick_device(people: Population, rider: Ints, rng: np.random.Generator) -> Ints:
    """The phone used: the rider's own, or a third of the time the household's."""
    shares = rng.random(len(rider)) < 0.35
    return np.where(shares, people.riders.shared_device[rider], people.riders.device[rider])


def honest_promo(n: int, rng: np.random.Generator) -> Ints:
    """Promotions of ordinary trips, shape [n]."""
    return rng.choice([NO_PROMO, SEASONAL, REFERRAL], n, p=[0.91, 0.06, 0.03])


def request(
    people: Population,
    rng: np.random.Generator,
    rider: Ints,
    time: Floats,
    ends: tuple[Place, Place],
    **given: Any,
) -> Requests:
    """Requests of honest habit.

    Args:
        people: the population.
        rng: where chance comes from.
        rider: who asks, shape [n].
        time: when, seconds since the first midnight, shape [n].
        ends: pickup and drop-off.
        given: columns (arrays or scalars) to use instead of what is habit.
    """
    n = len(rider)
    method, instrument = pay(people, rider, rng)
    columns: dict[str, Any] = {
        "time": time,
        "rider": rider,
        "driver": -1,
        "device": pick_device(people, rider, rng),
        "method": method,
        "instrument": instrument,
        "promo": honest_promo(n, rng),
        "pickup_lat": ends[0][0],
        "pickup_lon": ends[0][1],
        "dropoff_lat": ends[1][0],
        "dropoff_lon": ends[1][1],
        "typology": 0,
        "ring": -1,
        **given,
    }
    return Requests(**{name: np.broadcast_to(np.asarray(value), (n,)) for name, value in columns.items()})


def chance(probability: Any, n: int, rng: np.random.Generator) -> Mask:
    """n independent draws, true with the given probability."""
    result: Mask = rng.random(n) < probability
    return result
