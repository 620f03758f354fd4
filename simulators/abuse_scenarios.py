"""Focused worlds for stress tests: one kind of fraud turned up and the others off, in an otherwise honest city."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from simulators.ride_hailing import TYPOLOGIES, SimulationError, WorldSettings, WorldSummary, simulate
from simulators.ride_hailing.abuse.base import Scheme
from simulators.ride_hailing.abuse.registry import SCHEMES
from simulators.ride_hailing.settings import Typology

# High enough that every day has plenty, low enough that honest people remain the background.
STRESS_SHARE = 0.05


@dataclass(frozen=True)
class Scenario:
    """What is turned up.

    Attributes:
        name: as `fraud simulate --scenario` takes it.
        description: one line for a person.
        typologies: the kinds of fraud that occur.
        fraud_share: of all events.
    """

    name: str
    description: str
    typologies: tuple[Typology, ...]
    fraud_share: float


def _of_scheme(scheme: type[Scheme]) -> Scenario:
    """A scenario described by the first line of the typology's own module."""
    text = sys.modules[scheme.__module__].__doc__ or ""
    return Scenario(scheme.typology, text.strip().splitlines()[0], (scheme.typology,), STRESS_SHARE)


SCENARIOS: dict[str, Scenario] = {
    scenario.name: scenario
    for scenario in (
        *map(_of_scheme, SCHEMES),
        Scenario("everything", "All kinds of fraud at once, in equal parts.", TYPOLOGIES, STRESS_SHARE),
        Scenario("honest", "Nobody cheats: every alarm is a false one.", TYPOLOGIES, 0.0),
    )
}


def scenario_settings(name: str, *, seed: int = 7, days: int = 14, events_per_day: int = 1000) -> WorldSettings:
    """The settings of a scenario's world.

    Raises:
        SimulationError: there is no such scenario; the message lists those there are.
    """
    if name not in SCENARIOS:
        raise SimulationError(f"no scenario {name!r}: there are {', '.join(SCENARIOS)}")
    chosen = SCENARIOS[name]
    return WorldSettings(
        seed=seed,
        days=days,
        events_per_day=events_per_day,
        typology_shares=dict.fromkeys(chosen.typologies, 1.0),
        fraud_share=chosen.fraud_share,
    )


def generate_abuse_scenarios(
    name: str,
    out: Path,
    *,
    seed: int = 7,
    days: int = 14,
    events_per_day: int = 1000,
    force: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> WorldSummary:
    """Writes the world of a scenario to `out`; see `simulators.ride_hailing.simulate` for the files.

    Args:
        name: a key of SCENARIOS.
        out: an empty or new folder.
        seed: every random draw follows from it.
        days: UTC days.
        events_per_day: events a day, about.
        force: replace a world that is already there.
        progress: called after each day with (days done, days in all).

    Raises:
        SimulationError: no such scenario, or `out` is not empty and `force` is not set.
    """
    settings = scenario_settings(name, seed=seed, days=days, events_per_day=events_per_day)
    return simulate(settings, out, force=force, progress=progress)
