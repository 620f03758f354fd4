"""Plays a world from its first day to its last."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import numpy as np
import pyarrow as pa

from simulators.ride_hailing.abuse.collusion import Collusion
from simulators.ride_hailing.abuse.gps_spoofing import GpsSpoofing
from simulators.ride_hailing.abuse.multi_accounting import MultiAccounting
from simulators.ride_hailing.accounts import AccountChanges, honest_signups, other_changes
from simulators.ride_hailing.demand import honest_requests
from simulators.ride_hailing.emission import Emitter
from simulators.ride_hailing.geography import Map
from simulators.ride_hailing.population import populate
from simulators.ride_hailing.requests import concat
from simulators.ride_hailing.settings import WorldSettings
from simulators.ride_hailing.trips import ride
from simulators.ride_hailing.writer import WorldSummary, WorldWriter, prepare

Progress = Callable[[int, int], None]


def simulate(
    settings: WorldSettings, out: Path, *, force: bool = False, progress: Progress | None = None
) -> WorldSummary:
    """Simulates a world and writes it to `out`; the same settings give byte-identical files.

    Args:
        settings: seed and size.
        out: an empty or new folder.
        force: replace a world that is already there.
        progress: called after each day with (days done, days in all).

    Raises:
        SimulationError: `out` is not empty and `force` is not set.
    """
    prepare(out, force=force)
    writer = WorldWriter(settings, out)
    world = _World(settings)
    for day in range(settings.days):
        writer.write_day(world.play(day), day)
        if progress is not None:
            progress(day + 1, settings.days)
    return writer.finish()


class _World:
    def __init__(self, settings: WorldSettings) -> None:
        self._settings = settings
        self._map = Map(settings)
        self._people = populate(settings, self._map, MultiAccounting.reserve(settings))
        self._collusion = Collusion(settings, self._map, self._people)
        self._farms = MultiAccounting(settings, self._map, self._people)
        self._spoofing = GpsSpoofing(settings, self._map, self._people)
        self._emitter = Emitter(settings, self._people)

    def play(self, day: int) -> pa.Table:
        """All events that begin on the day."""
        people = self._people
        honest = honest_requests(self._settings, people, day)
        fake_rides, fake_signups = self._farms.stage(people, day)
        requests = concat([honest, *fake_rides, *self._collusion.requests(people, day)])
        trips = self._spoofing.spoof(ride(self._settings, self._map, people, requests, day), day)
        rng = self._settings.rng("signups", day)
        changes = [
            fake_signups,
            honest_signups(people, fake_signups.rider, day, rng),
            other_changes(self._settings, people, day),
        ]
        return self._emitter.emit(trips, _join(changes), day)


def _join(parts: list[AccountChanges]) -> AccountChanges:
    return AccountChanges(*(np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(AccountChanges)))
