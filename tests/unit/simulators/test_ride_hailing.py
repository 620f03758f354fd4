import ast
from collections import Counter
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from numpy.typing import NDArray
from pydantic import ValidationError

from feature_repo.event_batch import EventBatch
from feature_repo.event_schemas import CATALOGUE, EVENT_TYPES, SCORED_EVENT_TYPES
from feature_repo.event_schemas.validation import validate
from simulators import ride_hailing
from simulators.ride_hailing import (
    TYPOLOGIES,
    SimulationError,
    WorldSettings,
    WorldSummary,
    days,
    read_events,
    read_truth,
    simulate,
)

SMALL = WorldSettings(days=4, events_per_day=800, seed=3)
NUMERIC = [name for name, spec in CATALOGUE.fields.items() if spec.json_type != "string" and name != "event_timestamp"]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    simulate(WorldSettings(), folder)
    return folder


@pytest.fixture(scope="module")
def events(world: Path) -> pd.DataFrame:
    frames = [read_events(world, day).to_pandas().assign(day=n) for n, day in enumerate(days(world))]
    table: pd.DataFrame = pd.concat(frames, ignore_index=True)
    return table.merge(read_truth(world).to_pandas(), on="event_id", validate="1:1")


def auc(values: NDArray[np.floating[Any]], positive: NDArray[np.bool_]) -> float:
    """Area under the ROC curve in the better direction, ties counted half."""
    ranks = pd.Series(values).rank().to_numpy()
    n, m = int(positive.sum()), int((~positive).sum())
    area = (ranks[positive].sum() - n * (n + 1) / 2) / (n * m)
    return float(max(area, 1 - area))


def test_default_world_has_the_promised_days_and_events(world: Path, events: pd.DataFrame) -> None:
    assert len(days(world)) == 46
    assert (events["day"] < 45).sum() >= 100_000
    per_day = events.groupby("day").size()
    assert 3_700 < per_day.mean() < 4_300
    assert per_day.min() > 2_500
    assert set(events["event_type"]) == set(EVENT_TYPES)
    assert set(events["city"]) == {"tehran", "mashhad", "isfahan"}
    assert events["event_id"].is_unique


def test_every_event_of_the_default_world_fits_its_schema(world: Path) -> None:
    for day in days(world):
        assert validate(EventBatch.from_arrow(read_events(world, day))) == []


def test_events_lie_in_the_day_they_were_sent_in_sending_order(world: Path) -> None:
    for day in days(world)[::9]:
        table = read_events(world, day).to_pandas()
        assert set(table["sent_at"].dt.date) == {day}
        keys = list(zip(table["sent_at"], table["event_id"], strict=True))
        assert keys == sorted(keys)


def test_a_small_share_of_events_is_sent_late_and_none_early(events: pd.DataFrame) -> None:
    delay = (events["sent_at"] - events["event_timestamp"]).dt.total_seconds()
    assert delay.min() >= 0
    assert 0.003 < (delay > 100).mean() < 0.007
    assert 3600 < delay.max() <= 6 * 3600


def test_trip_events_follow_from_their_request(events: pd.DataFrame) -> None:
    requests = events[events.event_type == "trip_requested"].set_index("trip_id")
    for event_type in ("trip_completed", "trip_cancelled", "payment_authorized", "refund_claimed"):
        later = events[events.event_type == event_type].set_index("trip_id")
        known = later[later.index.isin(requests.index)]
        assert len(known) > 0.999 * len(later)  # a late request of the last hours may never be sent
        request = requests.loc[known.index]
        assert (known["rider_id"] == request["rider_id"]).all()
        assert (known["event_timestamp"] > request["event_timestamp"]).all()
    outcome = [set(events[events.event_type == t].trip_id) for t in ("trip_completed", "trip_cancelled")]
    assert not outcome[0] & outcome[1]
    completed = events[events.event_type == "trip_completed"].set_index("trip_id")
    charged = events[events.event_type == "payment_authorized"].set_index("trip_id")
    charged = charged[charged.index.isin(completed.index)]
    assert (charged["amount"] == completed.loc[charged.index, "amount"]).all()


def test_a_rider_does_nothing_before_signing_up(events: pd.DataFrame) -> None:
    signup = events[events.change == "signup"].set_index("rider_id")["event_timestamp"]
    assert signup.index.is_unique
    of_new = events[events.rider_id.isin(signup.index)]
    assert (of_new["event_timestamp"] >= signup.loc[of_new["rider_id"]].to_numpy()).all()


def test_fraud_is_rare_and_lasts_to_the_live_day(events: pd.DataFrame) -> None:
    assert 0.005 <= events["is_fraud"].mean() <= 0.01
    assert (events.groupby("day")["is_fraud"].sum() > 0).all()
    fraud = events[events.is_fraud]
    assert set(fraud["typology"]) == set(TYPOLOGIES)
    for typology in TYPOLOGIES:
        seen = np.isin(np.arange(46), fraud.loc[fraud.typology == typology, "day"])
        week = np.convolve(seen, np.ones(7), mode="valid")
        assert week.min() >= 4
        assert seen[-1]


def test_fraud_reaches_every_scored_event_type(events: pd.DataFrame) -> None:
    counts = events[events.is_fraud].groupby("event_type").size()
    assert set(SCORED_EVENT_TYPES) <= set(counts.index)


@pytest.mark.parametrize("event_type", EVENT_TYPES)
def test_no_single_field_gives_fraud_away(events: pd.DataFrame, event_type: str) -> None:
    of_type = events[events.event_type == event_type]
    assert of_type["is_fraud"].sum() >= 10
    for field in NUMERIC:
        if of_type[field].notna().any():
            assert auc(of_type[field].to_numpy(float), of_type["is_fraud"].to_numpy()) < 0.80, field


@pytest.mark.parametrize("typology", TYPOLOGIES)
def test_no_single_quantity_gives_one_typology_away(events: pd.DataFrame, typology: str) -> None:
    for event_type, of_type in events[~events.is_fraud | (events.typology == typology)].groupby("event_type"):
        if of_type["is_fraud"].sum() < 30:
            continue  # too few for the area to mean anything
        for field in set(NUMERIC) - {"promo_applied"}:
            if of_type[field].notna().any():
                area = auc(of_type[field].to_numpy(float), of_type["is_fraud"].to_numpy())
                assert area < 0.80, (event_type, field)


def test_fraudsters_are_honest_most_of_the_time(events: pd.DataFrame) -> None:
    collusion = events[(events.typology == "collusion")]
    spoofing = events[(events.typology == "gps_spoofing")]
    completed = events[events.event_type == "trip_completed"]
    for drivers in (collusion["driver_id"].dropna().unique(), spoofing["driver_id"].unique()):
        assert completed[completed.driver_id.isin(drivers)]["is_fraud"].mean() < 0.3
    riders = events[events.rider_id.isin(collusion["rider_id"])]
    assert riders["is_fraud"].mean() < 0.5


def test_rings_leave_a_trace_in_the_graph_that_honest_people_leave_too(events: pd.DataFrame) -> None:
    trips = events[events.event_type == "trip_completed"]
    staged = trips.assign(staged=trips["typology"] == "collusion")
    pairs = staged.groupby(["rider_id", "driver_id"])["staged"].agg(["size", "any"])
    assert pairs[pairs["any"]]["size"].mean() > 1.5 * pairs[~pairs["any"]]["size"].mean()
    assert (pairs[~pairs["any"]]["size"] >= 4).sum() > (pairs[pairs["any"]]["size"] >= 4).sum()
    signups = events[events.change == "signup"]
    accounts = events.groupby("device_id")["rider_id"].nunique()
    shared = accounts.loc[signups["device_id"]].to_numpy() > 2
    fraud = signups["is_fraud"].to_numpy()
    assert shared[fraud].mean() > 0.8
    assert 0.02 < shared[~fraud].mean() < 0.4


def test_jamming_hits_a_whole_city_of_honest_drivers(events: pd.DataFrame) -> None:
    trips = events[(events.event_type == "trip_completed") & ~events.is_fraud]
    hour = trips["event_timestamp"].dt.floor("h")
    radius = trips.groupby(["city", hour])["gps_accuracy_m"].agg(["median", "size"])
    jammed = radius[(radius["size"] >= 10) & (radius["median"] > 60)]
    assert len(jammed) > 20
    assert set(jammed.index.get_level_values(0)) == {"tehran", "mashhad", "isfahan"}


def test_new_rings_appear_in_the_last_weeks(events: pd.DataFrame) -> None:
    fraud = events[events.is_fraud]
    first_seen = fraud.groupby("ring_id")["day"].min()
    assert (first_seen >= 32).sum() >= 3


def _files(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_same_seed_gives_the_same_bytes_and_another_seed_does_not(tmp_path: Path) -> None:
    one = simulate(SMALL, tmp_path / "one")
    two = simulate(SMALL, tmp_path / "two")
    other = simulate(SMALL.model_copy(update={"seed": 4}), tmp_path / "other")
    assert one == two
    assert _files(tmp_path / "one") == _files(tmp_path / "two")
    assert one.digest != other.digest


def test_small_world_keeps_the_fraud_share_and_the_schemas(tmp_path: Path) -> None:
    summary = simulate(WorldSettings(days=10, events_per_day=400, cities=("isfahan",)), tmp_path)
    assert 0.002 < summary.fraud_events / summary.events < 0.015
    assert all(validate(EventBatch.from_arrow(read_events(tmp_path, day))) == [] for day in days(tmp_path))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("cities", ()),
        ("cities", ("tehran", "tehran")),
        ("first_day", date(9999, 12, 25)),
        ("days", 0),
        ("events_per_day", -1),
        ("fraud_share", float("nan")),
        ("seed", -1),
    ],
)
def test_an_impossible_setting_is_refused_by_name(field: str, value: Any) -> None:
    with pytest.raises(ValidationError, match=f"(?m)^{field}$"):
        WorldSettings.model_validate({field: value})


def test_progress_reports_each_day(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    simulate(SMALL, tmp_path, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_summary_counts_what_is_in_the_files(tmp_path: Path) -> None:
    summary = simulate(SMALL, tmp_path)
    assert WorldSummary.model_validate_json((tmp_path / "world.json").read_bytes()) == summary
    tables = [read_events(tmp_path, day) for day in days(tmp_path)]
    assert summary.events == sum(t.num_rows for t in tables)
    assert summary.events_by_type == Counter(pa.concat_tables(tables)["event_type"].to_pylist())
    assert summary.fraud_events == sum(read_truth(tmp_path)["is_fraud"].to_pylist())


def test_a_folder_in_use_is_refused_unless_forced(tmp_path: Path) -> None:
    kept = tmp_path / "notes.txt"
    kept.write_text("mine")
    with pytest.raises(SimulationError, match="is not empty"):
        simulate(SMALL, tmp_path)
    longer = simulate(SMALL, tmp_path, force=True)
    shorter = simulate(SMALL.model_copy(update={"days": 2}), tmp_path, force=True)
    assert (longer.days, shorter.days) == (4, 2)
    assert len(list((tmp_path / "events").iterdir())) == 2
    assert kept.read_text() == "mine"


def test_an_unfinished_world_and_a_missing_day_are_named(tmp_path: Path) -> None:
    with pytest.raises(SimulationError, match="no finished world"):
        days(tmp_path)
    simulate(SMALL, tmp_path, force=True)
    with pytest.raises(SimulationError, match="2026-01-03 to 2026-01-06"):
        read_events(tmp_path, date(2026, 2, 1))
    (tmp_path / "world.json").unlink()
    with pytest.raises(SimulationError, match="no finished world"):
        read_truth(tmp_path)


def test_the_package_knows_the_event_schemas_and_nothing_else_of_ours() -> None:
    allowed = ("feature_repo.event_schemas", "simulators.ride_hailing")
    ours = ("feature_repo", "inference_services", "components", "pipelines", "simulators")
    for path in Path(str(ride_hailing.__file__)).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert all(n.startswith(allowed) for n in names if n.startswith(ours)), path
