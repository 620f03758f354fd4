"""Reads a world's files back. Only the evaluation of a simulated system may open the truth."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ValidationError

from simulators.ride_hailing.emission import EVENT_SCHEMA
from simulators.ride_hailing.errors import SimulationError
from simulators.ride_hailing.folders import MANIFEST, day_folder
from simulators.ride_hailing.labels import LABEL_SCHEMA
from simulators.ride_hailing.snapshots import SNAPSHOT_TABLES
from simulators.ride_hailing.writer import DECISION_SCHEMA, WorldSummary


def read_world(world: Path) -> WorldSummary:
    """What `world.json` says.

    Raises:
        SimulationError: there is no finished world in the folder.
    """
    try:
        return WorldSummary.model_validate_json((world / MANIFEST).read_bytes())
    except FileNotFoundError:
        raise SimulationError(f"{world} holds no finished world: simulate one there first") from None
    except ValidationError as error:
        raise SimulationError(f"{world / MANIFEST} is not a world's: {error.error_count()} errors") from error


def days(world: Path) -> list[date]:
    """The UTC days that have events, in order."""
    settings = read_world(world).settings
    return [settings.first_day + timedelta(days=n) for n in range(settings.days)]


def read_events(world: Path, day: date) -> pa.Table:
    """Events sent on the UTC day, ordered by (sent_at, event_id): the catalogue's columns and `sent_at`.

    Raises:
        SimulationError: the world does not have that day.
    """
    path = day_folder(world, "events", day) / "events.parquet"
    if not path.is_file():
        known = days(world)
        raise SimulationError(f"{world} has no events on {day}: it covers {known[0]} to {known[-1]}")
    return pq.read_table(path, schema=EVENT_SCHEMA, partitioning=None)


def read_labels(world: Path, day: date) -> pa.Table:
    """Labels observed on the UTC day, ordered by time; none on many days.

    Labels go on arriving for `label_behaviour.LONGEST_DELAY_DAYS` after the last event.

    Raises:
        SimulationError: there is no finished world in the folder.
    """
    read_world(world)
    path = day_folder(world, "labels", day) / "labels.parquet"
    if not path.is_file():
        return LABEL_SCHEMA.empty_table()
    return pq.read_table(path, schema=LABEL_SCHEMA, partitioning=None)


def read_truth(world: Path) -> pa.Table:
    """event_id, is_fraud, typology, ring_id of every event, in the order in which they were sent.

    Raises:
        SimulationError: there is no finished world in the folder.
    """
    read_world(world)
    return pq.read_table(world / "truth" / "events.parquet", partitioning=None)


def read_decisions(world: Path, day: date) -> pa.Table:
    """event_id and decision (allow, review or block) of the day's events; none where the world had no policy.

    Raises:
        SimulationError: there is no finished world in the folder.
    """
    read_world(world)
    path = day_folder(world, "decisions", day) / "decisions.parquet"
    if not path.is_file():
        return DECISION_SCHEMA.empty_table()
    return pq.read_table(path, schema=DECISION_SCHEMA, partitioning=None)


def read_snapshot(world: Path, day: date, name: str) -> pa.Table:
    """One of SNAPSHOT_TABLES as the day begins; there is one for the first day and for the first of each month.

    Raises:
        SimulationError: there is no finished world in the folder, or no such picture in it.
    """
    read_world(world)
    path = day_folder(world, "snapshots", day) / f"{name}.parquet"
    if not path.is_file():
        known = ", ".join(sorted(p.name.removeprefix("day=") for p in (world / "snapshots").iterdir()))
        raise SimulationError(f"no picture of {name} on {day}: {', '.join(SNAPSHOT_TABLES)} of {known}")
    return pq.read_table(path, partitioning=None)
