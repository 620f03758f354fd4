"""What the frozen worlds gave when they were frozen, and whether a world in a folder is one of them."""

from __future__ import annotations

import hashlib
import json
from importlib import resources
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, ConfigDict

from simulators.ride_hailing.errors import SimulationError
from simulators.ride_hailing.reader import read_world
from simulators.ride_hailing.settings import WorldSettings
from simulators.ride_hailing.value_digests import value_digests
from simulators.ride_hailing.worlds import world_settings

RECORDS = "worlds.json"
_NAMED = 6  # columns that an error names


class SeedRecord(BaseModel):
    """What one seed of a frozen world gave.

    Attributes:
        use: a world to develop on, or one that only a final evaluation may open.
        files: SHA-256 over all files, as in `world.json`; depends on who wrote the parquet files.
        values: digest of each `table.column`, see value_digests.py; depends on the values alone.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    use: Literal["development", "evaluation"]
    events: int
    fraud_events: int
    labels: int
    files: str
    values: dict[str, str]


class WorldRecord(BaseModel):
    """What is recorded of a frozen world: the digest of its settings, its seeds, and which libraries drew them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    settings: str
    made_with: dict[str, str]
    seeds: dict[int, SeedRecord]


def recorded(name: str) -> WorldRecord:
    """The record of a frozen world, from the file beside this one.

    Raises:
        SimulationError: the world has none.
    """
    records = json.loads(resources.files(__package__).joinpath(RECORDS).read_text("utf-8"))
    if name not in records:
        raise SimulationError(f"{RECORDS} has no record of {name}")
    return WorldRecord.model_validate(records[name])


def settings_digest(settings: WorldSettings) -> str:
    """SHA-256 over every setting but the seed."""
    values = settings.model_dump(mode="json", exclude={"seed"})
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def record_of(world: Path, use: Literal["development", "evaluation"]) -> SeedRecord:
    """The record of a world that lies in a folder.

    Raises:
        SimulationError: there is no finished world in the folder.
    """
    summary = read_world(world)
    counts = {"events": summary.events, "fraud_events": summary.fraud_events, "labels": summary.labels}
    return SeedRecord(use=use, **counts, files=summary.digest, values=value_digests(world))


def versions() -> dict[str, str]:
    """The libraries that the values of a world (numpy) and the bytes of its files (pyarrow) depend on."""
    return {"numpy": np.__version__, "pyarrow": pa.__version__}


def differences(record: WorldRecord, settings: WorldSettings, world: Path) -> list[str] | None:
    """What of the world in a folder is not as recorded: "settings", or columns; None where its seed has no record.

    Files that another version of pyarrow wrote are no difference where every value is as recorded.

    Args:
        record: of a frozen world.
        settings: of that frozen world, with the seed in question.
        world: the folder.

    Raises:
        SimulationError: there is no finished world in the folder.
    """
    if settings_digest(settings) != record.settings or read_world(world).settings != settings:
        return ["settings"]
    if settings.seed not in record.seeds:
        return None
    then, now = record.seeds[settings.seed].values, value_digests(world)
    return [column for column in sorted(then.keys() | now.keys()) if then.get(column) != now.get(column)]


def verdict(name: str, world: Path) -> str:
    """One line on whether the world in a folder is the frozen one.

    Raises:
        SimulationError: it is not; the message says what differs and which libraries the record was made with.
    """
    seed, record = read_world(world).settings.seed, recorded(name)
    found = differences(record, world_settings(name, seed), world)
    if found is None:
        known = ", ".join(map(str, record.seeds))
        return f"{name}, seed {seed}: as its settings say, but no digests are recorded of this seed (only of {known})"
    if found:
        made, here = (" and ".join(f"{k} {v}" for k, v in which.items()) for which in (record.made_with, versions()))
        more = f" and {len(found) - _NAMED} more columns" if len(found) > _NAMED else ""
        raise SimulationError(
            f"{world} is not {name}, seed {seed}: {', '.join(found[:_NAMED])}{more} differ from the record, made with "
            f"{made} (here {here})"
        )
    same_files = read_world(world).digest == record.seeds[seed].files
    return f"{name}, seed {seed}: as recorded" + ("" if same_files else ", in files of another pyarrow")
