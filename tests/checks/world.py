"""`python -m tests.checks.world`: makes the frozen worlds again and fails if one is not as recorded."""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import pandas as pd
from rich.console import Console

from pipelines.local_stack import PROJECT_ROOT
from pipelines.report import Row
from simulators.ride_hailing import NewTypology, WorldSettings, days, read_truth, read_world, simulate, world_records
from simulators.ride_hailing.worlds import WORLDS, world_settings
from tests.bounds import conclude
from tests.checks.simulator import MOST_FRAUD

SEEDS = {"development": (7,), "evaluation": (102, 103, 104)}
RECORDS = Path(world_records.__file__).with_name(world_records.RECORDS)


def check(name: str, seeds: list[int], console: Console) -> list[Row]:
    """All rows of the report: for each seed what differs from the record, and whether every typology is there daily."""
    rows = []
    for seed in seeds:
        with console.status(f"{name}, seed {seed}"), tempfile.TemporaryDirectory(prefix="check-world-") as folder:
            start = time.perf_counter()
            settings = world_settings(name, seed)
            summary = simulate(settings, Path(folder))
            rows.append(Row(f"seed {seed}: time to simulate", round(time.perf_counter() - start, 1), "s"))
            found = world_records.differences(world_records.recorded(name), settings, Path(folder))
            least = fewest_a_day(Path(folder))
        rows.append(Row(f"seed {seed}: events", summary.events, "events"))
        if found is not None:
            differing = ", ".join(found) or "nothing"
            rows.append(Row(f"seed {seed}: differs from the record", differing, "", "nothing", not found))
        share = round(summary.fraud_events / summary.events, 5)
        rows.append(Row(f"seed {seed}: fraud", share, "share", "at most 1 %", share <= MOST_FRAUD))
        which, n = str(least.idxmin()), int(least.min())
        title = f"seed {seed}: fewest scored fraud events of a typology on a day, {which}"
        rows.append(Row(title, n, "events", "at least 1", n >= 1))
    return rows


def fewest_a_day(world: Path) -> pd.Series:
    """Of each typology the fewest scored fraud events that a day has; before a new one's first day none are asked."""
    settings = read_world(world).settings
    truth = read_truth(world).to_pandas().set_index("event_id")["typology"]
    tables = []
    for n, day in enumerate(days(world)):
        events = pd.read_parquet(
            world / "events" / f"day={day.isoformat()}" / "events.parquet", columns=["event_id", "event_type"]
        )
        tables.append(events[events["event_type"] != "trip_cancelled"].assign(day=n))
    scored = pd.concat(tables, ignore_index=True).join(truth, on="event_id").dropna(subset=["typology"])
    daily = pd.crosstab(scored["day"], scored["typology"])
    daily = daily.reindex(index=range(settings.days), columns=list(settings.typology_shares), fill_value=0)
    return pd.Series({name: daily.loc[_begins(settings, name) :, name].min() for name in daily.columns})


def _begins(settings: WorldSettings, typology: str) -> int:
    return max((c.day for c in settings.changes if isinstance(c, NewTypology) and c.typology == typology), default=0)


def record(name: str, console: Console) -> None:
    """Writes the record of a world that has none yet.

    Raises:
        SystemExit: it has one: a frozen world is never recorded again.
    """
    records = json.loads(RECORDS.read_text("utf-8")) if RECORDS.exists() else {}
    if name in records:
        raise SystemExit(f"{name} is recorded already: a change is a new version")
    seeds = {}
    for use, numbers in SEEDS.items():
        for seed in numbers:
            with console.status(f"{name}, seed {seed}"), tempfile.TemporaryDirectory(prefix="record-") as folder:
                simulate(WORLDS[name](seed), Path(folder))
                seeds[seed] = world_records.record_of(Path(folder), use)
    made = world_records.WorldRecord(
        settings=world_records.settings_digest(WORLDS[name](0)), made_with=world_records.versions(), seeds=seeds
    )
    records[name] = made.model_dump(mode="json")
    RECORDS.write_text(json.dumps(records, indent=2) + "\n", "utf-8")


def main() -> int:
    """Returns 1 when a world is not as recorded or a bound is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--world", choices=list(WORLDS), default=list(WORLDS)[-1])
    parser.add_argument("--seeds", type=int, nargs="+", help="default: all that are recorded")
    parser.add_argument("--record", action="store_true", help="write the record of a new version, then check it")
    parser.add_argument("--out", type=Path, default=PROJECT_ROOT / ".local" / "reports" / "check-world.json")
    given = parser.parse_args()
    console = Console(highlight=False)
    if given.record:
        record(given.world, console)
    rows = check(given.world, given.seeds or list(world_records.recorded(given.world).seeds), console)
    return conclude(rows, given.out, console)


if __name__ == "__main__":
    raise SystemExit(main())
