"""Reads a world's files back. Only the evaluation of a simulated system may open the truth."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ValidationError

from simulators.ride_hailing.emission import EVENT_SCHEMA
from simulators.ride_hailing.errors import SimulationError
from simulators.ride_hailing.labels import LABEL_SCHEMA
from simulators.ride_hailing.writer import MANIFEST, WorldSummary, day_folder


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

    Labels go on arriving for nine days after the last event.

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
