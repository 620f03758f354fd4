"""`python -m tests.checks.simulator`: simulates worlds, measures how hard they are, and fails if a bound is missed."""

from __future__ import annotations

import argparse
import tempfile
import warnings
from dataclasses import replace
from pathlib import Path

import feast  # noqa: F401 - it sets warning filters when imported, and ours must come after
import numpy as np
import pandas as pd
from rich.console import Console

from pipelines.local_stack import PROJECT_ROOT
from pipelines.report import Row
from simulators.ride_hailing import WorldSettings, simulate
from simulators.ride_hailing.worlds import world_v1
from tests.bounds import conclude, leave
from tests.checks.marginals import marginal_rows
from tests.checks.models import model_rows
from tests.checks.neighbours import neighbour_rows
from tests.checks.raw_fields import field_rows, id_row
from tests.checks.worlds import World, make_world, raw_events

MOST_FRAUD = 0.01


def base_settings(seed: int, days: int) -> WorldSettings:
    """The settings of world-v1 without its planned changes, in a world of so many days."""
    settings = world_v1(seed).model_dump() | {"days": days, "changes": ()}
    return WorldSettings.model_validate(settings)


def check(seeds: list[int], days: int, months: int, console: Console) -> list[Row]:
    """All rows of the report.

    Args:
        seeds: one world each.
        days: of each world with features.
        months: of 30 days, of the world whose marginals are followed; it needs no features.
        console: told about each step.
    """
    rows: list[Row] = []
    worlds: list[World] = []
    for seed in seeds:
        with console.status(f"seed {seed}: simulating {days} days, building features"), _scratch() as folder:
            world = make_world(base_settings(seed, days), Path(folder))
        prevalence = float(world.events["is_fraud"].mean())
        rows.append(Row(f"seed {seed}: fraud", prevalence, "share", "at most 1 %", prevalence <= MOST_FRAUD))
        with console.status(f"seed {seed}: training"):
            rows += model_rows(world)
        worlds.append(world)
        console.print(f"seed {seed}: {len(world.events):,} events measured")
    events = pd.concat([w.events.assign(world=w.seed) for w in worlds], ignore_index=True)
    rng = np.random.default_rng(seeds)
    with console.status("single fields, pairs of fields, ids"):
        rows += [*field_rows(events, rng), id_row(events, rng)]
    with console.status("nearest neighbours"):
        rows += neighbour_rows([w.features for w in worlds])
    with console.status(f"{months} months"), _scratch() as folder:
        simulate(WorldSettings(seed=seeds[0], days=months * 30, events_per_day=2500), Path(folder))
        rows += marginal_rows(raw_events(Path(folder)))
    return [_plain(row) for row in rows]


def _plain(row: Row) -> Row:
    """The row in types that JSON knows, its figure rounded to what the number of events can bear."""
    value = round(float(row.value), 4) if isinstance(row.value, float) else row.value
    return replace(row, value=value, met=None if row.met is None else bool(row.met))


def _scratch() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="check-simulator-")


def main() -> int:
    """Returns 1 when a bound is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[7, 8, 9])
    parser.add_argument("--days", type=int, default=40, help="days of each world")
    parser.add_argument("--months", type=int, default=4, help="months over which marginals are followed")
    parser.add_argument("--out", type=Path, default=PROJECT_ROOT / ".local" / "reports" / "check-simulator.json")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    console = Console(highlight=False)
    rows = check(given.seeds, given.days, given.months, console)
    return conclude(rows, given.out, console)


if __name__ == "__main__":
    leave(main())
