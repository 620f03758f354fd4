"""A frozen world is what its record says, and any difference is found and named."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy._core._multiarray_umath as numpy_core
import pandas as pd
import pyarrow.parquet as pq
import pytest

from simulators.ride_hailing import SimulationError, WorldSettings, days, read_events, read_truth, read_world, simulate
from simulators.ride_hailing.folders import digest
from simulators.ride_hailing.world_records import (
    WorldRecord,
    differences,
    record_of,
    recorded,
    settings_digest,
    verdict,
    versions,
)
from simulators.ride_hailing.worlds import WORLDS, world_settings
from tests.checks.world import fewest_a_day
from tests.conftest import ROOT

TINY = WorldSettings(days=3, events_per_day=400, cities=("isfahan",))


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    simulate(TINY, tmp_path / "tiny")
    return tmp_path / "tiny"


def of_tiny(world: Path) -> WorldRecord:
    seeds = {TINY.seed: record_of(world, "development")}
    return WorldRecord(settings=settings_digest(TINY), made_with=versions(), seeds=seeds)


@pytest.mark.parametrize("name", WORLDS)
def test_every_setting_of_a_frozen_world_is_written_out_and_recorded(name: str) -> None:
    settings = world_settings(name, 3)
    assert settings.model_fields_set == set(WorldSettings.model_fields)
    assert settings_digest(settings) == recorded(name).settings


def changed(value: Any) -> Any:
    match value:
        case date():
            return value + timedelta(days=1)
        case tuple():
            return value[:-1]
        case dict():
            return {**value, "collusion": value["collusion"] + 0.001}
        case _:
            return value + 1


@pytest.mark.parametrize("field", sorted(set(WorldSettings.model_fields) - {"seed"}))
def test_no_setting_of_world_v1_can_change_unnoticed(field: str) -> None:
    settings = world_settings("world-v1", 3)
    other = settings.model_copy(update={field: changed(getattr(settings, field))})
    assert settings_digest(other) != recorded("world-v1").settings


def test_world_v1_has_one_seed_to_develop_on_and_three_to_evaluate_on() -> None:
    uses = [r.use for r in recorded("world-v1").seeds.values()]
    assert (uses.count("development"), uses.count("evaluation")) == (1, 3)


def test_an_unknown_world_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(SimulationError, match="no world 'world-v0': there is world-v1"):
        world_settings("world-v0", 3)


def test_a_world_made_again_does_not_differ_whoever_writes_its_files(tiny: Path) -> None:
    record = of_tiny(tiny)
    assert differences(record, TINY, tiny) == []
    path = tiny / "truth" / "events.parquet"
    pq.write_table(pq.read_table(path), path, compression="gzip", row_group_size=100)
    assert digest(tiny) != record.seeds[TINY.seed].files
    assert differences(record, TINY, tiny) == []


def test_one_changed_value_is_named_by_its_column(tiny: Path) -> None:
    record = of_tiny(tiny)
    path = next((tiny / "events").rglob("*.parquet"))
    table = pq.read_table(path, partitioning=None)
    amount = table["amount"].to_pandas()
    amount.iloc[amount.first_valid_index()] += 1
    place = table.schema.get_field_index("amount")
    pq.write_table(table.set_column(place, "amount", [amount.array]), path)
    assert differences(record, TINY, tiny) == ["events.amount"]


def test_a_missing_file_and_other_settings_are_differences_and_another_seed_has_no_record(tiny: Path) -> None:
    record = of_tiny(tiny)
    assert differences(record, TINY.model_copy(update={"late_share": 0.1}), tiny) == ["settings"]
    simulate(other := TINY.model_copy(update={"seed": 8}), tiny, force=True)
    assert differences(record, other, tiny) is None
    simulate(TINY, tiny, force=True)
    next((tiny / "labels").rglob("*.parquet")).unlink()
    found = differences(record, TINY, tiny)
    assert found
    assert all(column.startswith("labels.") for column in found)


def test_another_world_under_the_name_is_an_error_that_says_what_differs(tiny: Path) -> None:
    with pytest.raises(SimulationError, match=r"is not world-v1, seed 7: settings differ .* made with numpy"):
        verdict("world-v1", tiny)


def test_every_processor_gives_the_same_world() -> None:
    """Numpy has other instructions for other processors: with none of them a world is the same to the byte."""
    extras = [name for name in numpy_core.__cpu_dispatch__ if numpy_core.__cpu_features__[name]]
    script = (
        "import tempfile; from pathlib import Path; from simulators.ride_hailing import WorldSettings, simulate\n"
        "with tempfile.TemporaryDirectory() as f:\n"
        "    print(simulate(WorldSettings(seed=3, days=12, events_per_day=3000), Path(f)).digest)"
    )
    digests = []
    for without in ("", " ".join(extras)):
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "NPY_DISABLE_CPU_FEATURES": without}
        done = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, check=True, env=environment
        )
        digests.append(done.stdout)
    assert digests[0] == digests[1] != ""


@pytest.fixture(scope="module")
def world_v1(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world-v1")
    simulate(world_settings("world-v1", 7), folder)
    return folder


@pytest.mark.slow
def test_world_v1_is_made_again_as_recorded(world_v1: Path) -> None:
    assert verdict("world-v1", world_v1).startswith("world-v1, seed 7: as recorded")
    assert fewest_a_day(world_v1).min() >= 1
    summary = read_world(world_v1)
    assert summary.days >= 120
    assert summary.fraud_events / summary.events <= 0.01


@pytest.mark.slow
def test_world_v1_changes_by_its_calendar(world_v1: Path) -> None:
    events = pd.concat([read_events(world_v1, day).to_pandas().assign(day=n) for n, day in enumerate(days(world_v1))])
    events = events.merge(read_truth(world_v1).to_pandas(), on="event_id", validate="1:1")
    taken, long_hauls = (events[events.typology == name] for name in ("account_takeover", "fare_manipulation"))
    weekly = taken.groupby(taken.day // 7).size()
    assert weekly[10:11].mean() > 1.8 * weekly.drop([10, 11]).mean()
    assert long_hauls["day"].min() >= 105
    trips = events[(events.event_type == "trip_completed") & ~events.is_fraud]
    jammed = (trips["gps_accuracy_m"] > 60).groupby([trips.city, trips.day]).mean()["tehran"]
    assert jammed.loc[56:62].min() > 0.05
    spoofed = events[(events.typology == "gps_spoofing") & (events.event_type == "trip_completed")]
    mocked = (
        (spoofed["gps_accuracy_m"] < 6).groupby(pd.cut(spoofed.day, [-1, 83, 97, 125]), observed=True).mean().tolist()
    )
    assert mocked[1] < 0.6 * min(mocked[0], mocked[2])
    rush = events[(events.event_type == "trip_requested") & events["event_timestamp"].dt.hour.isin([3, 4])]
    mornings = rush.groupby("day").size()
    assert mornings.loc[65:67].mean() < 0.8 * mornings.loc[58:60].mean()
