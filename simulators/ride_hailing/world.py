"""Plays a world from its first day to its last."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path

import numpy as np
import pyarrow as pa

from simulators.ride_hailing.abuse.base import Staged
from simulators.ride_hailing.abuse.registry import SCHEMES
from simulators.ride_hailing.accounts import AccountChanges, honest_signups, other_changes
from simulators.ride_hailing.adversary import Adversary, Feedback
from simulators.ride_hailing.demand import honest_requests
from simulators.ride_hailing.emission import Emitter
from simulators.ride_hailing.geography import DAY_S, Ints, Map
from simulators.ride_hailing.hard_negatives import Disruptions, Travel
from simulators.ride_hailing.policy import Policy
from simulators.ride_hailing.population import populate
from simulators.ride_hailing.requests import Requests, concat
from simulators.ride_hailing.schedule import Schedule
from simulators.ride_hailing.settings import WorldSettings
from simulators.ride_hailing.tactics import carry_out, exchange_gps, exchange_hours
from simulators.ride_hailing.trips import ride
from simulators.ride_hailing.writer import WorldSummary, WorldWriter

Progress = Callable[[int, int], None]


def simulate(
    settings: WorldSettings,
    out: Path,
    *,
    force: bool = False,
    progress: Progress | None = None,
    policy: Policy | None = None,
    batch_hours: int = 24,
) -> WorldSummary:
    """Simulates a world and writes it to `out`; the same settings give byte-identical files.

    Args:
        settings: seed and size.
        out: an empty or new folder.
        force: replace a world that is already there.
        progress: called after each day with (days done, days in all).
        policy: decides on what is published; the abusers adapt to what it blocks. The bytes then depend on it too.
        batch_hours: how many hours of events the policy is shown at once, 1 to 24.

    Raises:
        SimulationError: `out` is not empty and `force` is not set.
    """
    writer = WorldWriter(settings, out, force=force, policy=policy, batch_hours=batch_hours)
    world = _World(settings)
    for day in range(settings.days):
        writer.picture(world.people, day)
        world.learn(day, writer.write_day(world.play(day), day))
        if progress is not None:
            progress(day + 1, settings.days)
    return writer.finish()


class _World:
    def __init__(self, settings: WorldSettings) -> None:
        self._settings = settings
        self._schedule = Schedule(settings)
        self._adversary = Adversary(settings)
        self._map = Map(settings)
        reserve = sum(scheme.reserve(settings) for scheme in SCHEMES)
        self.people = populate(settings, self._map, reserve)
        self._schemes = [scheme(settings, self._map, self.people) for scheme in SCHEMES]
        self._disruptions = Disruptions(settings, self._map)
        self._travel = Travel(settings, self._map, self.people)
        self._emitter = Emitter(settings, self.people)

    def learn(self, day: int, seen: Mapping[str, Feedback]) -> None:
        """Lets the abusers see what became of the day's attempts."""
        self._adversary.learn(day, seen)

    def play(self, day: int) -> pa.Table:
        """All events that begin on the day."""
        people, rng = self.people, self._settings.rng("tactics", day)
        self._travel.begin(day)
        for scheme in self._schemes:
            scheme.counts[day] = rng.binomial(scheme.counts[day], self._adversary.intensity(scheme.typology, day))
        staged = [scheme.stage(day) for scheme in self._schemes]
        honest = honest_requests(self._settings, people, day)
        requests = concat([honest, *(part for plan in staged for part in plan.requests)])
        requests = carry_out(requests, self._adversary.tactics, day, rng)
        requests = self._with_new_hours(requests, staged, day, rng)
        trips = ride(self._settings, self._disruptions, people, requests, day)
        for scheme in self._schemes:
            trips = scheme.alter(trips, day)
        trips = exchange_gps(trips, self._drifted(day), rng)
        changes = [change for plan in staged for change in plan.changes]
        fake = np.concatenate([np.empty(0, np.int64), *(change.rider for change in changes)])
        changes.append(honest_signups(people, fake, day, self._settings.rng("signups", day)))
        changes.append(other_changes(self._settings, people, day))
        return self._emitter.emit(trips, _join(changes), day)

    def _drifted(self, day: int) -> Ints:
        """Codes of the typologies that have changed their ways an odd number of times by the day."""
        return np.array([s.code for s in self._schemes if self._schedule.behaviour(s.typology, day) % 2], np.int64)

    def _with_new_hours(
        self, requests: Requests, staged: Sequence[Staged], day: int, rng: np.random.Generator
    ) -> Requests:
        """Drifted requests exchange hours with honest ones, unless they follow an account change of the day."""
        riders = self.people.riders
        bound = np.concatenate([np.empty(0, np.int64), *(c.rider for plan in staged for c in plan.changes)])
        free = (riders.signup_time[requests.rider] < day * DAY_S) & ~np.isin(requests.rider, bound)
        drifted = np.isin(requests.typology, self._drifted(day))
        return exchange_hours(requests, riders.city[requests.rider], free, drifted, rng)


def _join(parts: list[AccountChanges]) -> AccountChanges:
    return AccountChanges(*(np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(AccountChanges)))
