import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from simulators.ride_hailing import (
    AllowAll,
    Policy,
    SimulationError,
    WorldSettings,
    days,
    read_decisions,
    read_events,
    read_labels,
    read_snapshot,
    read_truth,
    read_world,
    simulate,
)
from simulators.ride_hailing.adversary import NEUTRAL, Adversary, Feedback, Search, observe, update

SETTINGS = WorldSettings(days=10, events_per_day=1500, cities=("isfahan",), holdout_share=0.2)
TINY = WorldSettings(days=3, events_per_day=400, cities=("isfahan",))


class Random:
    """Blocks three scored events in ten at random and every account change, and keeps what it was shown."""

    def __init__(self) -> None:
        self.batches: list[pa.Table] = []
        self._rng = np.random.default_rng(0)

    def decide(self, events: pa.Table) -> NDArray[np.str_]:
        self.batches.append(events)
        answer = self._rng.choice(["allow", "review", "block"], events.num_rows, p=[0.69, 0.01, 0.3])
        return np.where(events["event_type"].to_pandas() == "account_changed", "block", answer)


def everything(world: Path) -> pd.DataFrame:
    tables = []
    for day in days(world):
        events = read_events(world, day).to_pandas()
        tables.append(events.merge(read_decisions(world, day).to_pandas(), on="event_id", how="left", validate="1:1"))
    return pd.concat(tables, ignore_index=True).merge(read_truth(world).to_pandas(), on="event_id", validate="1:1")


@pytest.fixture(scope="module")
def policy() -> Random:
    return Random()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, policy: Random) -> Path:
    folder = tmp_path_factory.mktemp("policed")
    simulate(SETTINGS, folder, policy=policy, batch_hours=1)
    return folder


@pytest.fixture(scope="module")
def events(world: Path) -> pd.DataFrame:
    return everything(world)


def blocked(events: pd.DataFrame, event_type: str) -> set[str]:
    return set(events[(events.decision == "block") & (events.event_type == event_type)]["trip_id"].dropna())


def test_a_policy_sees_each_hour_once_and_no_truth(events: pd.DataFrame, policy: Random) -> None:
    assert len(policy.batches) == 24 * SETTINGS.days
    shown = pa.concat_tables(policy.batches)
    assert not {"typology", "ring_id", "is_fraud", "decision"} & set(shown.column_names)
    sent = shown["sent_at"].to_pandas()
    assert sent.is_monotonic_increasing
    assert all(b["sent_at"].to_pandas().dt.floor("h").nunique() <= 1 for b in policy.batches)
    assert set(events["event_id"]) <= set(shown["event_id"].to_pylist())


def test_nothing_follows_a_blocked_request(events: pd.DataFrame) -> None:
    requests = events[events.event_type == "trip_requested"].set_index("trip_id")["sent_at"]
    later = events[events.trip_id.isin(blocked(events, "trip_requested")) & (events.event_type != "trip_requested")]
    # What was published before a late request cannot be undone.
    undone = later[later["sent_at"] > later["trip_id"].map(requests)]
    assert len(blocked(events, "trip_requested")) > 500
    assert undone.empty


def test_no_refund_is_claimed_for_a_declined_payment(events: pd.DataFrame) -> None:
    claimed = set(events[events.event_type == "refund_claimed"]["trip_id"])
    assert len(blocked(events, "payment_authorized")) > 300
    assert not claimed & blocked(events, "payment_authorized")


def test_a_blocked_completion_is_paid_all_the_same(events: pd.DataFrame) -> None:
    paid = set(events[events.event_type == "payment_authorized"]["trip_id"])
    assert len(paid & blocked(events, "trip_completed")) > 100


def test_an_abuser_who_fails_the_step_up_check_is_out(events: pd.DataFrame) -> None:
    changes = events[(events.event_type == "account_changed") & events.is_fraud & (events.decision == "block")]
    since = changes.groupby("rider_id")["sent_at"].min()
    fraud = events[events.is_fraud & events.rider_id.isin(since.index)]
    assert len(since) >= 3
    assert (fraud["sent_at"] <= fraud["rider_id"].map(since)).all()


def test_only_what_is_scored_is_blocked(events: pd.DataFrame) -> None:
    assert set(events[events.event_type == "trip_cancelled"]["decision"]) == {"allow"}


def test_blocked_events_have_no_natural_label_and_holdout_trips_are_never_blocked(
    world: Path, events: pd.DataFrame
) -> None:
    span = pd.date_range(days(world)[0], periods=75).date
    labels = pd.concat([read_labels(world, day).to_pandas() for day in span], ignore_index=True)
    decision = labels["event_id"].map(events.set_index("event_id")["decision"])
    natural = labels.source.isin(["chargeback", "audit"])
    assert natural.sum() > 10
    assert not (decision[natural] == "block").any()
    assert (decision[labels.source == "holdout"] != "block").all()
    assert (decision[labels.source == "reviewer"] == "block").any()
    trip = events.set_index("event_id")["trip_id"]
    held = set(labels.loc[labels.source == "holdout", "event_id"].map(trip).dropna())
    assert not held & blocked(events, "trip_requested")


def test_allowing_everything_changes_nothing_but_the_record(tmp_path: Path) -> None:
    simulate(TINY, tmp_path / "none")
    simulate(TINY, tmp_path / "allowed", policy=AllowAll(), batch_hours=6)
    for folder in ("events", "labels", "truth"):
        files = sorted(p.relative_to(tmp_path / "none") for p in (tmp_path / "none" / folder).rglob("*.parquet"))
        assert files
        for name in files:
            assert (tmp_path / "none" / name).read_bytes() == (tmp_path / "allowed" / name).read_bytes()
    assert read_decisions(tmp_path / "none", TINY.first_day).num_rows == 0
    assert set(read_decisions(tmp_path / "allowed", TINY.first_day)["decision"].to_pylist()) == {"allow"}


def test_the_same_policy_gives_the_same_bytes_and_blocks_change_the_world(tmp_path: Path) -> None:
    size = TINY.model_copy(update={"days": 16})
    one, two = (simulate(size, tmp_path / name, policy=Random(), batch_hours=8) for name in ("one", "two"))
    free = simulate(size, tmp_path / "free", policy=AllowAll(), batch_hours=8)
    assert one == two
    assert one.blocked_events > 0 == free.blocked_events
    assert one.events < free.events


class _Wrong:
    def __init__(self, answer: list[str]) -> None:
        self._answer = answer

    def decide(self, events: pa.Table) -> NDArray[np.str_]:
        return np.array((self._answer * events.num_rows)[: events.num_rows - (not self._answer[0])])


@pytest.mark.parametrize(("answer", "message"), [(["maybe"], "'maybe'"), ([""], "answered in shape")])
def test_an_unusable_answer_is_named(tmp_path: Path, answer: list[str], message: str) -> None:
    policy: Policy = _Wrong(answer)
    with pytest.raises(SimulationError, match=message):
        simulate(TINY, tmp_path, policy=policy)


def test_a_batch_of_no_hours_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(SimulationError, match="batch_hours"):
        simulate(TINY, tmp_path / "w", policy=AllowAll(), batch_hours=0)
    assert not (tmp_path / "w").exists()


def test_abusers_move_towards_what_is_blocked_less() -> None:
    """A bank that blocks bold trips: its probability rises with boldness, and nothing else matters."""
    rng = np.random.default_rng(1)
    search = Search()
    for day in range(40 * 7):
        tried = 60
        search = observe(search, day, Feedback(tried, int(rng.binomial(tried, 0.35 * search.tactics(day).boldness))))
        if day % 7 == 6:
            search = update(search, rng)
    assert search.centre[1] < 0.8


def test_unblocked_abusers_keep_their_ways() -> None:
    adversary = Adversary(SETTINGS)
    for day in range(30):
        adversary.learn(day, {"collusion": Feedback(20, 0), "off_platform": Feedback(20, int(day > 20))})
    assert adversary.tactics("collusion", 30) == NEUTRAL
    assert adversary.tactics("off_platform", 20) != NEUTRAL
    assert adversary.intensity("collusion", 30) == adversary.boldness("collusion", 30) == 1.0


def test_a_killed_run_leaves_nothing_that_looks_complete(tmp_path: Path) -> None:
    script = (
        "import os, sys; from pathlib import Path; from simulators.ride_hailing import WorldSettings, simulate\n"
        "simulate(WorldSettings(days=4, events_per_day=400), Path(sys.argv[1]),"
        " progress=lambda done, total: os._exit(9) if done == 2 else None)"
    )
    assert subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=False).returncode == 9
    assert [p.name for p in tmp_path.iterdir()] == [".unfinished"]
    with pytest.raises(SimulationError, match="no finished world"):
        read_world(tmp_path)
    simulate(TINY, tmp_path)
    assert not (tmp_path / ".unfinished").exists()
    assert len(days(tmp_path)) == TINY.days


def test_the_truth_is_written_as_the_days_go_by(world: Path) -> None:
    file = pq.ParquetFile(world / "truth" / "events.parquet")
    assert file.num_row_groups == SETTINGS.days
    order = pd.concat([read_events(world, day).to_pandas() for day in days(world)])["event_id"].tolist()
    assert read_truth(world)["event_id"].to_pylist() == order


def test_pictures_show_existing_accounts_on_the_first_of_each_month(tmp_path: Path) -> None:
    summary = simulate(WorldSettings(days=31, events_per_day=300, cities=("isfahan",)), tmp_path)
    folders = sorted(p.name for p in (tmp_path / "snapshots").iterdir())
    assert folders == ["day=2026-01-03", "day=2026-02-01"]
    first, second = (
        read_snapshot(tmp_path, pd.Timestamp(day).date(), "riders").to_pandas() for day in ("2026-01-03", "2026-02-01")
    )
    assert len(second) > len(first) > 0.5 * summary.settings.riders
    assert second["signed_up_at"].dropna().between("2026-01-03", "2026-02-01", inclusive="left").all()
    owners = read_snapshot(tmp_path, summary.settings.first_day, "device_ownership").to_pandas()
    assert set(owners["rider_id"]) == set(first["rider_id"])
    families = read_snapshot(tmp_path, summary.settings.first_day, "households").to_pandas()
    assert families.groupby("household_id")["rider_id"].size().max() >= 2
    with pytest.raises(SimulationError, match="2026-02-01"):
        read_snapshot(tmp_path, pd.Timestamp("2026-01-09").date(), "riders")
