"""Honest people and bad days that look like fraud: each group is there, and its share can be set."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from simulators.ride_hailing import WorldSettings, days, read_events, simulate

BASE = WorldSettings(days=10, events_per_day=1500, seed=5, fraud_share=0.0)
GROUPS = (
    "regular_pair_share",
    "family_share",
    "dormitory_share",
    "traveller_share",
    "cheap_phone_share",
    "resold_share",
    "shift_swap_share",
    "jamming_share",
    "outage_share",
    "closure_share",
)


def _play(folder: Path, **changes: Any) -> pd.DataFrame:
    """The events of a world without fraud, with these settings changed."""
    simulate(BASE.model_copy(update=changes), folder, force=True)
    table: pd.DataFrame = pd.concat([read_events(folder, day).to_pandas() for day in days(folder)], ignore_index=True)
    return table


def _of(events: pd.DataFrame, event_type: str) -> pd.DataFrame:
    return events[events.event_type == event_type]


def _accounts_a_device(events: pd.DataFrame) -> pd.Series:
    return events.groupby("device_id")["rider_id"].nunique()


@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize("share", [-0.1, 1.1])
def test_a_share_that_is_none_is_refused_by_name(group: str, share: float) -> None:
    with pytest.raises(ValidationError, match=group):
        WorldSettings.model_validate({group: share})


def test_travellers_ride_in_another_city_for_some_days_and_come_back(tmp_path: Path) -> None:
    at_home = _play(tmp_path, traveller_share=0.0)
    assert at_home.groupby("rider_id")["city"].nunique().max() == 1
    events = _play(tmp_path, traveller_share=0.02)
    cities = events.groupby("rider_id")["city"].nunique()
    assert (cities > 1).mean() > 0.03
    trips = _of(events, "trip_requested").sort_values("event_timestamp")
    moves = trips.groupby("rider_id")["city"].agg(lambda city: (city != city.shift()).sum() - 1)
    returned = trips.groupby("rider_id")["city"].agg(lambda city: city.iloc[0] == city.iloc[-1]) & (moves == 2)
    assert returned.sum() >= 3


def test_a_world_of_one_city_has_nowhere_to_travel(tmp_path: Path) -> None:
    events = _play(tmp_path, cities=("isfahan",), traveller_share=0.2)
    assert set(events["city"]) == {"isfahan"}


def test_dormitories_put_a_dozen_honest_accounts_on_one_device(tmp_path: Path) -> None:
    without = _accounts_a_device(_play(tmp_path, dormitory_share=0.0, traveller_share=0.0))
    with_them = _accounts_a_device(_play(tmp_path, dormitory_share=0.2, traveller_share=0.0))
    assert (with_them >= 5).sum() >= (without >= 5).sum() + 5


def test_families_share_a_card(tmp_path: Path) -> None:
    shared = [
        (_play(tmp_path, family_share=share).groupby("payment_instrument_id")["rider_id"].nunique() > 1).sum()
        for share in (0.0, 0.11)
    ]
    assert shared[0] == 0
    assert shared[1] > 20


def test_charges_fail_for_everybody_while_the_banks_are_down(tmp_path: Path) -> None:
    quiet, down = (_of(_play(tmp_path, outage_share=share), "payment_authorized") for share in (0.0, 1.0))
    worst = []
    for charges in (quiet, down):
        by_hour = charges.groupby(charges["event_timestamp"].dt.floor("h"))["attempt"].agg(["mean", "size"])
        worst.append((by_hour[by_hour["size"] >= 15]["mean"] > 1.8).sum())
    assert worst[0] == 0
    assert worst[1] >= 10
    assert (_of(_play(tmp_path, outage_share=1.0), "payment_authorized").groupby("trip_id").size() > 1).mean() > 0.02


def test_closed_roads_lengthen_honest_trips(tmp_path: Path) -> None:
    detours = []
    for share in (0.0, 1.0):
        events = _play(tmp_path, closure_share=share, jamming_share=0.0)
        planned = _of(events, "trip_requested").set_index("trip_id")["distance_m"]
        driven = _of(events, "trip_completed").set_index("trip_id")["distance_m"]
        ratio = (driven / planned).dropna()
        detours.append((ratio > 1.25).mean())
    assert detours[1] > 1.3 * detours[0]


def test_jamming_and_cheap_phones_spoil_the_gps(tmp_path: Path) -> None:
    good = _play(tmp_path, jamming_share=0.0, cheap_phone_share=0.0)
    cheap = _play(tmp_path, jamming_share=0.0, cheap_phone_share=0.5)
    jammed = _play(tmp_path, jamming_share=1.0, cheap_phone_share=0.0)
    bad = [(_of(e, "trip_requested")["gps_accuracy_m"] > 40).mean() for e in (good, cheap, jammed)]
    assert bad[0] < 0.01
    assert bad[1] > 0.05
    assert bad[2] > 0.05


def test_phones_are_resold_to_other_riders(tmp_path: Path) -> None:
    owners = []
    for share in (0.0, 1.0):
        changes = _of(_play(tmp_path, resold_share=share, days=30), "account_changed")
        new = changes[changes.change == "device"]["device_id"].unique()
        owners.append(changes[changes.device_id.isin(new)].groupby("device_id")["rider_id"].nunique())
    assert owners[0].max() == 1
    assert (owners[1] > 1).sum() >= 5


def test_regular_pairs_ride_together_more_than_others(tmp_path: Path) -> None:
    most = []
    for share in (0.0, 1.0):
        trips = _of(_play(tmp_path, regular_pair_share=share), "trip_completed")
        most.append((trips.groupby(["rider_id", "driver_id"]).size() >= 5).sum())
    assert most[1] > most[0] + 5


def test_swapped_shifts_spread_a_drivers_hours(tmp_path: Path) -> None:
    spread = []
    for share in (0.0, 0.5):
        trips = _of(_play(tmp_path, shift_swap_share=share), "trip_requested").dropna(subset="driver_id")
        angle = np.exp(2j * np.pi * (trips["event_timestamp"].dt.hour + 0.5) / 24)
        spread.append(1 - angle.groupby(trips["driver_id"]).mean().abs().mean())
    assert spread[1] > 1.2 * spread[0]


def test_nowruz_empties_the_offices_and_fills_the_roads(tmp_path: Path) -> None:
    events = _play(tmp_path, first_day=date(2026, 3, 8), days=24)
    local = events["event_timestamp"] + pd.Timedelta(hours=3.5)
    trips = events.assign(date=local.dt.date, hour=local.dt.hour)
    trips = trips[(trips.event_type == "trip_requested") & ~local.dt.dayofweek.isin([3, 4])]
    nowruz = trips["date"] >= date(2026, 3, 20)
    morning = trips["hour"].between(6, 8)
    assert morning[nowruz].mean() < 0.7 * morning[~nowruz].mean()
    usual = trips[~nowruz].groupby("rider_id")["city"].agg(lambda city: city.mode()[0])
    away = trips["city"] != trips["rider_id"].map(usual).fillna(trips["city"])
    assert away[nowruz].mean() > 2 * away[~nowruz].mean()


def test_riders_churn(tmp_path: Path) -> None:
    active = []
    for share in (0.0, 0.05):
        trips = _of(_play(tmp_path, churn_share=share, days=24), "trip_requested")
        day = (trips["event_timestamp"] - trips["event_timestamp"].min()).dt.days
        early, late = set(trips[day < 8]["rider_id"]), set(trips[day >= 16]["rider_id"])
        active.append(len(early & late) / len(early))
    assert active[1] < 0.7 * active[0]
