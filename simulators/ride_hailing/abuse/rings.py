"""Who cheats together, from when to when, and how often."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from simulators.ride_hailing.geography import Ints, Map
from simulators.ride_hailing.settings import TYPOLOGIES, Typology, WorldSettings

# Fraud events that one staged trip (or account, or inflated trip) leads to: measured on the default world.
_EVENTS_PER_INCIDENT: dict[Typology, float] = {"collusion": 3.0, "multi_accounting": 5.4, "gps_spoofing": 1.65}
_RINGS_AT_4000_A_DAY: dict[Typology, int] = {"collusion": 9, "multi_accounting": 9, "gps_spoofing": 18}


@dataclass(frozen=True)
class Span:
    """A ring's number in the world, its city code, and the days on which it is in business."""

    ring: int
    city: int
    first_day: int
    last_day: int


def incidents_per_day(settings: WorldSettings, typology: Typology) -> Ints:
    """How many incidents of the typology to stage on each day, shape [days]; at least one on the last.

    Errors are carried forward, so that small worlds keep the share too, and the noise is bounded, so that a world
    of the default size has some on every day.
    """
    rng = settings.rng(f"schedule {typology}")
    rate = settings.fraud_share * settings.events_per_day / len(TYPOLOGIES) / _EVENTS_PER_INCIDENT[typology]
    total = np.floor(rng.random() + np.cumsum(rate * rng.uniform(0.6, 1.4, settings.days)))
    counts = np.diff(total, prepend=0.0).astype(np.int64)
    if settings.fraud_share > 0:
        counts[-1] = max(1, counts[-1])
    return counts


def ring_spans(settings: WorldSettings, places: Map, typology: Typology) -> list[Span]:
    """The rings of a typology: spread over the cities by size, starting all through the world's days.

    New rings keep appearing, so a model has to find rings that it was not trained on.
    """
    rng = settings.rng(f"rings {typology}")
    n = max(2, round(_RINGS_AT_4000_A_DAY[typology] * settings.events_per_day / 4000))
    cities = np.searchsorted(np.cumsum(places.share), (rng.permutation(n) + 0.5) / n)
    length = rng.uniform(9, 20, n)
    start = np.linspace(-6, max(settings.days - 6, -5), n)
    base = 1000 * (TYPOLOGIES.index(typology) + 1)
    return [Span(base + k, int(cities[k]), int(start[k]), int(start[k] + length[k])) for k in range(n)]


def active(spans: list[Span], day: int) -> list[int]:
    """Positions of the spans that hold the day; where none does, the one that ended last."""
    now = [k for k, span in enumerate(spans) if span.first_day <= day <= span.last_day]
    return now or [max(range(len(spans)), key=lambda k: min(spans[k].last_day, day))]
