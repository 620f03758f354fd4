from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pydantic import ValidationError

from simulators.ride_hailing import (
    ConceptDrift,
    Holiday,
    Jamming,
    LabelShift,
    NewTypology,
    WorldSettings,
    days,
    read_events,
    read_truth,
    simulate,
)
from simulators.ride_hailing.schedule import Schedule

SIZE: dict[str, Any] = {"days": 28, "events_per_day": 4000, "cities": ("tehran", "isfahan"), "jamming_share": 0.0}
HALF = 14


def played(out: Path, *changes: Any) -> pd.DataFrame:
    simulate(WorldSettings(**SIZE, changes=changes), out)
    tables = [
        read_events(out, day).append_column("day", pa.array([n] * read_events(out, day).num_rows))
        for n, day in enumerate(days(out))
    ]
    return pa.concat_tables(tables).to_pandas().merge(read_truth(out).to_pandas(), on="event_id", validate="1:1")


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    return played(tmp_path_factory.mktemp("plain"))


@pytest.fixture(scope="module")
def changed(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    return played(
        tmp_path_factory.mktemp("changed"),
        LabelShift(day=HALF, until=28, typology="collusion", factor=3.0),
        NewTypology(day=HALF, typology="stolen_card"),
        ConceptDrift(day=HALF, typology="gps_spoofing"),
        Jamming(day=HALF, until=HALF + 4, city="isfahan"),
        Holiday(day=2, until=5),
    )


def per_day(world: pd.DataFrame, typology: str) -> tuple[float, float]:
    """Fraud events a day before and from HALF on."""
    of_it = world[world.typology == typology]
    return float((of_it.day < HALF).sum() / HALF), float((of_it.day >= HALF).sum() / (28 - HALF))


def test_a_label_shift_multiplies_the_rate_from_its_day_on(plain: pd.DataFrame, changed: pd.DataFrame) -> None:
    before, after = per_day(changed, "collusion")
    assert 2.2 < after / before < 3.9
    assert before == pytest.approx(per_day(plain, "collusion")[0], rel=0.25)


def test_a_new_typology_does_not_occur_before_its_day(plain: pd.DataFrame, changed: pd.DataFrame) -> None:
    assert min(per_day(plain, "stolen_card")) > 0
    before, after = per_day(changed, "stolen_card")
    assert before == 0
    assert after > 0


def gps(world: pd.DataFrame, *, fraud: bool) -> np.ndarray:
    trips = world[(world.event_type == "trip_completed") & (world.day >= HALF + 4)]
    return trips[(trips.typology == "gps_spoofing") if fraud else ~trips.is_fraud]["gps_accuracy_m"].to_numpy()


def test_concept_drift_makes_the_spoofers_readings_those_of_honest_drivers(
    plain: pd.DataFrame, changed: pd.DataFrame
) -> None:
    def mocked(world: pd.DataFrame) -> float:
        return float((gps(world, fraud=True) < 6).mean() - (gps(world, fraud=False) < 6).mean())

    assert len(gps(changed, fraud=True)) > 10
    assert mocked(plain) > 0.2
    assert abs(mocked(changed)) < 0.2
    assert np.median(gps(plain, fraud=False)) == pytest.approx(np.median(gps(changed, fraud=False)), rel=0.05)


def test_planned_jamming_hits_its_city_on_its_days_only(changed: pd.DataFrame) -> None:
    trips = changed[(changed.event_type == "trip_completed") & ~changed.is_fraud]
    bad = trips["gps_accuracy_m"] > 150
    share = bad.groupby([trips.city, trips.day]).mean()
    assert share["isfahan"].loc[HALF : HALF + 3].min() > 0.03
    assert share["isfahan"].drop(range(HALF, HALF + 4)).max() < 0.02
    assert share["tehran"].max() < 0.02


def test_on_a_planned_holiday_commuters_stay_at_home(plain: pd.DataFrame, changed: pd.DataFrame) -> None:
    def rush(world: pd.DataFrame) -> int:
        asked = world[(world.event_type == "trip_requested") & world.day.isin([2, 3, 4])]
        return int(asked["event_timestamp"].dt.hour.isin([3, 4]).sum())

    assert rush(changed) < 0.7 * rush(plain)


def test_a_world_without_changes_has_neutral_answers() -> None:
    schedule = Schedule(WorldSettings())
    assert schedule.rate("collusion", 3) == 1.0
    assert schedule.behaviour("collusion", 3) == 0
    assert not schedule.jamming("tehran", 3)
    assert not schedule.holiday(3)


def test_changes_of_one_typology_multiply_and_end() -> None:
    shifts = [LabelShift(day=2, until=6, typology="account_rental", factor=f) for f in (2.0, 0.5, 3.0)]
    schedule = Schedule(WorldSettings(changes=(*shifts, ConceptDrift(day=4, typology="account_rental"))))
    assert [schedule.rate("account_rental", day) for day in (1, 2, 5, 6)] == [1.0, 3.0, 3.0, 1.0]
    assert [schedule.behaviour("account_rental", day) for day in (3, 4)] == [0, 1]
    assert schedule.rate("collusion", 3) == 1.0


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"kind": "label_shift", "day": 1, "until": 2, "typology": "collusion", "factor": -1}, r"factor"),
        ({"kind": "holiday", "day": 5, "until": 5}, r"until"),
        ({"kind": "holiday", "day": -1, "until": 5}, r"day"),
        ({"kind": "holiday", "day": 3, "until": 400}, r"changes\[0\]\.until"),
        ({"kind": "concept_drift", "day": 46, "typology": "collusion"}, r"changes\[0\]\.day"),
        ({"kind": "concept_drift", "day": 3, "typology": "refund_abuse"}, r"typology"),
        ({"kind": "new_typology", "day": 3, "typology": "arson"}, r"changes\[0\]\.typology"),
        ({"kind": "jamming", "day": 3, "until": 4, "city": "paris"}, r"changes\[0\]\.city"),
        ({"kind": "flood", "day": 3}, r"kind"),
    ],
)
def test_an_impossible_change_is_refused_by_name(change: dict[str, Any], field: str) -> None:
    with pytest.raises(ValidationError, match=field):
        WorldSettings.model_validate({"changes": [change]})
