"""The ten ways to cheat: how often each occurs, what it leaves behind, and who looks like it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from simulators.ride_hailing import TYPOLOGIES, WorldSettings, days, read_events, read_truth, simulate
from simulators.ride_hailing.abuse.collusion import Collusion
from simulators.ride_hailing.abuse.registry import SCHEMES
from simulators.ride_hailing.geography import Map
from simulators.ride_hailing.population import populate
from simulators.ride_hailing.settings import Typology

DAYS = 16
BUSY = WorldSettings(days=DAYS, events_per_day=8000, seed=11)


@pytest.fixture(scope="module")
def events(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    return _events(BUSY, tmp_path_factory.mktemp("world"))


def _events(settings: WorldSettings, folder: Path) -> pd.DataFrame:
    simulate(settings, folder)
    table: pd.DataFrame = pd.concat([read_events(folder, day).to_pandas() for day in days(folder)], ignore_index=True)
    table = table.merge(read_truth(folder).to_pandas(), on="event_id", validate="1:1")
    day = (table["event_timestamp"].dt.tz_localize(None) - pd.Timestamp(settings.first_day)).dt.days
    return table.assign(day=day)


def _of(events: pd.DataFrame, typology: str, event_type: str | None = None) -> pd.DataFrame:
    chosen = events[events.typology == typology]
    return chosen if event_type is None else chosen[chosen.event_type == event_type]


def test_there_is_one_scheme_for_each_typology() -> None:
    assert sorted(scheme.typology for scheme in SCHEMES) == sorted(TYPOLOGIES)
    assert len(TYPOLOGIES) == 10


@pytest.mark.parametrize("typology", TYPOLOGIES)
def test_every_typology_occurs_on_every_day_of_a_busy_world(events: pd.DataFrame, typology: str) -> None:
    assert set(_of(events, typology)["day"]) >= set(range(DAYS))


@pytest.mark.parametrize("typology", TYPOLOGIES)
def test_typologies_keep_the_shares_of_the_settings(events: pd.DataFrame, typology: Typology) -> None:
    wanted = BUSY.typology_shares[typology] / sum(BUSY.typology_shares.values())
    assert len(_of(events, typology)) / events["is_fraud"].sum() == pytest.approx(wanted, rel=0.3)
    assert events["is_fraud"].mean() <= 0.01


def test_a_typology_that_is_left_out_does_not_occur(tmp_path: Path) -> None:
    settings = WorldSettings(days=5, events_per_day=1000, typology_shares={"off_platform": 2.0, "refund_abuse": 1.0})
    assert set(_events(settings, tmp_path)["typology"].dropna()) == {"off_platform", "refund_abuse"}


@pytest.mark.parametrize(
    "shares", [{"collusion": -1.0}, {"collusion": 0.0}, {}, {"smuggling": 1.0}, {"collusion": np.inf}]
)
def test_impossible_shares_are_refused_by_name(shares: dict[str, float]) -> None:
    with pytest.raises(ValidationError, match="typology_shares"):
        WorldSettings(typology_shares=shares)


def test_rings_have_four_to_forty_members_and_most_are_small() -> None:
    settings = WorldSettings(days=120, events_per_day=20_000)
    places = Map(settings)
    people = populate(settings, places, 0)
    sizes = np.array([ring.size for ring in Collusion(settings, places, people).rings])
    assert (sizes.min(), sizes.max()) == (4, 40)
    assert np.median(sizes) < 10


@pytest.mark.parametrize(
    ("typology", "event_types"),
    [
        ("off_platform", {"trip_requested", "trip_cancelled", "promo_redeemed"}),
        ("account_rental", {"trip_completed"}),
        ("refund_abuse", {"refund_claimed"}),
        ("fare_manipulation", {"trip_completed", "payment_authorized"}),
        ("gps_spoofing", {"trip_completed", "payment_authorized"}),
    ],
)
def test_only_the_events_that_were_cheated_on_are_fraud(
    events: pd.DataFrame, typology: str, event_types: set[str]
) -> None:
    assert set(_of(events, typology)["event_type"]) <= event_types


def test_a_deal_off_the_platform_is_called_off_by_somebody_after_a_match(events: pd.DataFrame) -> None:
    cancelled = _of(events, "off_platform", "trip_cancelled")
    assert set(cancelled["cancelled_by"]) == {"rider", "driver"}
    assert cancelled["driver_id"].notna().all()
    assert not set(cancelled["trip_id"]) & set(events[events.event_type == "trip_completed"]["trip_id"])


def test_a_rented_account_drives_at_hours_that_its_owner_does_not(events: pd.DataFrame) -> None:
    trips = events[events.event_type == "trip_completed"]
    hour = trips["event_timestamp"].dt.hour + trips["event_timestamp"].dt.minute / 60
    angle = np.exp(2j * np.pi * hour / 24)
    usual = angle[~trips.is_fraud].groupby(trips["driver_id"]).mean()
    rented = trips["typology"] == "account_rental"
    near = np.real(angle * np.conj(usual.reindex(trips["driver_id"]).to_numpy()))
    assert near[rented].mean() < near[~trips.is_fraud].mean() - 0.3


def test_a_taken_account_rides_soon_after_its_change_and_on_phones_of_several_victims(events: pd.DataFrame) -> None:
    changes, rides = (_of(events, "account_takeover", kind) for kind in ("account_changed", "trip_requested"))
    first = rides.groupby("rider_id")["event_timestamp"].min()
    both = changes[changes.rider_id.isin(first.index)]
    gap = (first.loc[both["rider_id"]].to_numpy() - both["event_timestamp"].to_numpy()) / np.timedelta64(1, "h")
    assert len(both) > 20
    assert (gap > 0).all()
    assert np.median(gap) < 3
    assert rides.groupby("device_id")["rider_id"].nunique().max() >= 2


def test_stolen_cards_are_also_used_by_their_owners(events: pd.DataFrame) -> None:
    users = events.groupby("payment_instrument_id")["rider_id"].nunique()
    stolen = _of(events, "stolen_card", "payment_authorized")
    honest = events[~events.is_fraud & (events.event_type == "payment_authorized")]
    shared = [(users.loc[part["payment_instrument_id"]] > 1).mean() for part in (stolen, honest)]
    assert shared[0] > shared[1] + 0.2
    assert (users.loc[honest["payment_instrument_id"].unique()] > 1).sum() > len(stolen)


def test_who_does_not_pay_is_charged_again_and_again(events: pd.DataFrame) -> None:
    charges = (
        events[events.event_type == "payment_authorized"]
        .groupby("trip_id")
        .agg(last=("attempt", "max"), fraud=("typology", lambda kind: (kind == "wallet_non_payment").any()))
    )
    assert charges[charges.fraud]["last"].mean() > charges[~charges.fraud]["last"].mean() + 0.5
    assert (charges[~charges.fraud]["last"] >= 3).sum() > (charges[charges.fraud]["last"] >= 3).sum()


def test_long_hauls_have_honest_detours_beside_them(events: pd.DataFrame) -> None:
    planned = events[events.event_type == "trip_requested"].set_index("trip_id")["distance_m"]
    trips = events[(events.event_type == "trip_completed") & events.trip_id.isin(planned.index)]
    ratio = trips["distance_m"].to_numpy() / planned.loc[trips["trip_id"]].to_numpy()
    hauled = (trips["typology"] == "fare_manipulation").to_numpy()
    assert np.median(ratio[hauled]) > 1.2
    assert (ratio[~trips["is_fraud"]] > 1.3).sum() > 5 * hauled.sum()


# A fake account is made for the fraud; it is its operator's own account that is honest.
@pytest.mark.parametrize("typology", [t for t in TYPOLOGIES if t != "multi_accounting"])
def test_cheats_are_honest_most_of_the_time(events: pd.DataFrame, typology: str) -> None:
    by_driver = {"gps_spoofing", "off_platform", "fare_manipulation", "account_rental"}
    who = "driver_id" if typology in by_driver else "rider_id"
    theirs = events[events[who].isin(_of(events, typology)[who].dropna())]
    assert theirs["is_fraud"].mean() < 0.5


def test_new_cheats_keep_appearing(events: pd.DataFrame) -> None:
    first = events[events.is_fraud].groupby(["typology", "ring_id"])["day"].min()
    for typology in TYPOLOGIES:
        assert (first.loc[typology] >= DAYS // 2).any(), typology
