"""Who cheats together, from when to when, and how often."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from simulators.ride_hailing.geography import Ints, Map
from simulators.ride_hailing.schedule import Schedule
from simulators.ride_hailing.settings import TYPOLOGIES, Typology, WorldSettings

_NOISE = 0.4  # how far a day's incidents may lie from their mean, as a share of it


@dataclass(frozen=True)
class Span:
    """A ring's number in the world, its city code, and the days on which it is in business."""

    ring: int
    city: int
    first_day: int
    last_day: int


def incidents_per_day(settings: WorldSettings, typology: Typology, events_per_incident: float) -> Ints:
    """How many incidents of the typology to stage on each day, shape [days]; at least one on the last.

    Errors are carried forward, so that small worlds keep the share too, and the noise is bounded: where the mean
    is one incident or more, no day goes without.
    """
    rng = settings.rng(f"schedule {typology}")
    rate = settings.fraud_events_per_day(typology) / events_per_incident
    planned = Schedule(settings)
    factor = np.array([planned.rate(typology, day) for day in range(settings.days)])
    if rate == 0 or not factor.any():
        return np.zeros(settings.days, np.int64)
    noise = min(_NOISE, (rate - 1) / rate) if rate > 1 else _NOISE
    total = np.floor(rng.random() + np.cumsum(rate * factor * rng.uniform(1 - noise, 1 + noise, settings.days)) + 1e-9)
    counts = np.diff(total, prepend=0.0).astype(np.int64)
    counts[-1] = max(1 if factor[-1] > 0 else 0, counts[-1])
    return counts


def ring_spans(settings: WorldSettings, places: Map, typology: Typology, at_4000_a_day: int) -> list[Span]:
    """The rings of a typology: spread over the cities by size, starting all through the world's days.

    New rings keep appearing, so a model has to find rings that it was not trained on. A longer world and a busier
    one have more of them; `at_4000_a_day` is how many 46 days of 4000 events see.
    """
    rng = settings.rng(f"rings {typology}")
    n = max(2, round(at_4000_a_day * settings.events_per_day / 4000 * max(settings.days, 12) / 46))
    cities = np.searchsorted(np.cumsum(places.share), (rng.permutation(n) + 0.5) / n)
    length = rng.uniform(9, 20, n)
    start = np.linspace(-6, max(settings.days - 6, -5), n)
    base = 1000 * (TYPOLOGIES.index(typology) + 1)
    return [Span(base + k, int(cities[k]), int(start[k]), int(start[k] + length[k])) for k in range(n)]


def active(spans: list[Span], day: int) -> list[int]:
    """Positions of the spans that hold the day; where none does, the one that ended last."""
    now = [k for k, span in enumerate(spans) if span.first_day <= day <= span.last_day]
    return now or [max(range(len(spans)), key=lambda k: min(spans[k].last_day, day))]
