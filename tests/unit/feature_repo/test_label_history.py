"""Confirmed frauds in the profiles: what the labels say at each midnight, and nothing that was said later."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.build_training_set.maturation import resolve_labels
from feature_repo.batch_features import write_profiles
from feature_repo.errors import CorruptValue
from feature_repo.feature_names import PROFILE_KINDS
from feature_repo.labels import LABEL_COLUMNS, LABEL_SOURCES, no_labels, read_labels
from feature_repo.online_reader import StoreRead
from feature_repo.profiles import UNPUBLISHED, profile_features
from tests.parity.logs import DAY_S, SECOND_US, START_US, Drawn, log_of, traffic_of
from tests.parity.week import KEY

DAY_US = DAY_S * SECOND_US
HOUR_US = 3600 * SECOND_US


@dataclass(frozen=True)
class Label:
    """What somebody said of the log's event number `event`, so long after its first midnight."""

    event: int
    is_fraud: bool
    source: str
    after_us: int


def table(labels: Sequence[Label]) -> pa.Table:
    """The rows of a label log."""
    rows = [
        {
            "event_id": f"e{label.event - 1}",
            "is_fraud": label.is_fraud,
            "source": label.source,
            "observed_at": START_US + label.after_us,
        }
        for label in labels
    ]
    return pa.Table.from_pylist(rows, LABEL_COLUMNS)


def trip(step_us: int = HOUR_US, delay_us: int = 0, ids: tuple[int, int, int, int] = (1, 1, 1, 1)) -> Drawn:
    return Drawn(step_us, delay_us, "trip_completed", ids, 100)


# The first at 1 h and the second at 2 h are of the same people, the third at 3 h is of others.
DAY_ONE = (trip(), trip(), trip(ids=(2, 2, 2, 2)))


def published(
    labels: Sequence[Label], drawn: Sequence[Drawn] = DAY_ONE, kind: str = "rider", which: int = 1
) -> dict[int, tuple[int, int]]:
    """By publication, in days after the first midnight: the confirmed frauds of an entity and its latest.

    The latest is in microseconds after the first midnight, -1 for none.
    """
    log = log_of(traffic_of(drawn), KEY)
    entity = next(
        row[f"{kind}_id"]
        for row, one in zip(log.to_pylist(), drawn, strict=True)
        if one.ids[PROFILE_KINDS.index(kind)] == which
    )
    with tempfile.TemporaryDirectory() as folder:
        write_profiles(log, table(labels), Path(folder))
        frame = pd.read_parquet(Path(folder) / f"{kind}_profile.parquet")
    frame = frame[frame[f"{kind}_id"] == entity].sort_values("event_timestamp")
    day = (frame["event_timestamp"].astype("datetime64[us, UTC]").astype("int64") - START_US) // DAY_US
    last = frame[f"{kind}_last_fraud_us"]
    last = last.where(last < 0, last - START_US)
    rows = zip(day.tolist(), frame[f"{kind}_confirmed_frauds"].tolist(), last.tolist(), strict=True)
    return {at: (frauds, us) for at, frauds, us in rows}


def fraud(after_us: int, source: str = "chargeback", event: int = 1) -> Label:
    return Label(event, True, source, after_us)


def honest(after_us: int, source: str = "chargeback", event: int = 1) -> Label:
    return Label(event, False, source, after_us)


@pytest.mark.parametrize("kind", PROFILE_KINDS)
def test_a_label_counts_from_the_midnight_after_it_was_observed(kind: str) -> None:
    assert published([fraud(2 * DAY_US - 1)], kind=kind) == {1: (0, -1), 2: (1, HOUR_US)}
    # Observed at the publication itself: in the next one.
    assert published([fraud(2 * DAY_US)], kind=kind) == {1: (0, -1), 3: (1, HOUR_US)}
    assert published([fraud(2 * DAY_US)], kind=kind, which=2) == {1: (0, -1)}


def test_a_label_that_comes_later_is_gone_from_earlier_publications() -> None:
    early = published([fraud(HOUR_US * 5)])
    for days in range(1, 6):
        later = published([fraud(days * DAY_US + HOUR_US)])
        assert later == {1: (0, -1), days + 1: (1, HOUR_US)}
        assert early == {1: (1, HOUR_US)}


@pytest.mark.parametrize(
    ("first", "then", "stands"),
    [
        ("reviewer", "chargeback", False),
        ("reviewer", "audit", False),
        ("reviewer", "holdout", False),
        ("holdout", "audit", False),
        ("reviewer", "reviewer", False),
        ("chargeback", "reviewer", True),
        ("audit", "holdout", True),
    ],
)
def test_a_verdict_is_undone_by_whoever_is_trusted_as_much(first: str, then: str, stands: bool) -> None:
    found = published([fraud(DAY_US + HOUR_US, first), honest(3 * DAY_US + HOUR_US, then)])
    assert found == {1: (0, -1), 2: (1, HOUR_US)} | ({} if stands else {4: (0, -1)})


@pytest.mark.parametrize("order", [1, -1])
def test_of_two_words_at_one_instant_the_graver_counts(order: int) -> None:
    said = [fraud(HOUR_US * 9, "reviewer"), honest(HOUR_US * 9, "reviewer")]
    assert published(said[::order]) == {1: (1, HOUR_US)}


def test_the_latest_fraud_is_the_latest_that_still_counts() -> None:
    labels = [
        fraud(DAY_US, "audit", event=1),
        fraud(2 * DAY_US, "reviewer", event=2),
        honest(4 * DAY_US, "audit", event=2),
    ]
    assert published(labels) == {1: (0, -1), 2: (1, HOUR_US), 3: (2, 2 * HOUR_US), 5: (1, HOUR_US)}


def test_honest_labels_and_labels_of_unknown_events_publish_nothing() -> None:
    assert published([honest(3 * DAY_US), fraud(3 * DAY_US, event=99)]) == {1: (0, -1)}


def test_an_event_counts_only_after_it_arrived() -> None:
    drawn = [*DAY_ONE, trip(step_us=2 * DAY_US, delay_us=40 * HOUR_US)]
    assert published([fraud(DAY_US, event=4)], drawn) == {1: (0, -1), 3: (1, 11 * HOUR_US)}


LABELS = st.lists(
    st.builds(
        Label,
        event=st.integers(1, 5),
        is_fraud=st.booleans(),
        source=st.sampled_from(LABEL_SOURCES),
        after_us=st.builds(lambda d, e: d * DAY_US + e, st.integers(0, 6), st.sampled_from([-1, 0, 1, HOUR_US])),
    ),
    max_size=12,
)


@settings(max_examples=60, deadline=None)
@given(LABELS)
def test_every_publication_counts_what_the_training_labels_say_by_then(labels: list[Label]) -> None:
    drawn = [*DAY_ONE, trip(step_us=DAY_US), trip(step_us=DAY_US, delay_us=30 * HOUR_US)]
    log = log_of(traffic_of(drawn), KEY).to_pandas().set_index("event_id")
    mine = log[log["rider_id"] == log["rider_id"].iloc[0]]
    found, state = published(labels, drawn), (0, -1)
    said = table(labels).to_pandas().assign(typology=None)
    for day in range(1, 9):
        midnight = pd.Timestamp(START_US + day * DAY_US, unit="us", tz="UTC")
        verdicts = resolve_labels(said, midnight)["y"]
        frauds = mine.loc[(mine["ingested_at"] < midnight) & mine.index.isin(verdicts.index[verdicts == 1.0])]
        latest = frauds["event_timestamp"].max()
        last = -1 if frauds.empty else latest.value // 1000 - START_US
        state = found.get(day, state)
        assert state == (len(frauds), last), day


def test_days_since_fraud_are_at_most_those_of_the_longest_window() -> None:
    as_of = np.array([START_US] * 4)
    stored = {name: np.full(4, absent) for name, absent in UNPUBLISHED.items()}
    stored["last_fraud_us"] = START_US - np.array([HOUR_US * 12, -HOUR_US, 45 * DAY_US, START_US + 1])
    stored["confirmed_frauds"] = np.array([1, 1, 3, 0])
    found = profile_features("rider", stored, as_of)
    assert found["rider_days_since_fraud"].tolist() == [0.5, 0.0, 30.0, 30.0]
    assert found["rider_confirmed_frauds"].tolist() == [1, 1, 3, 0]
    nobody = profile_features("rider", {n: np.full(1, absent) for n, absent in UNPUBLISHED.items()}, as_of[:1])
    assert [float(values[0]) for values in nobody.values()] == [0.0, 0.0, 0.0, 30.0]
    assert np.isnan(StoreRead.nothing(1).features["rider_days_since_fraud"]).all()


def test_a_label_log_is_read_without_what_was_observed_later(tmp_path: Path) -> None:
    assert read_labels(tmp_path / "nowhere").equals(no_labels())
    start = datetime.fromtimestamp(START_US / SECOND_US, UTC)
    for day, after_us in enumerate((HOUR_US, DAY_US - 1, DAY_US, 2 * DAY_US + HOUR_US)):
        part = tmp_path / f"day={date.fromordinal(start.toordinal() + after_us // DAY_US)}"
        part.mkdir(exist_ok=True)
        pq.write_table(table([replace(fraud(after_us), event=day + 1)]), part / f"{day}.parquet")
    assert read_labels(tmp_path)["event_id"].to_pylist() == ["e0", "e1", "e2", "e3"]
    known = read_labels(tmp_path, before=start.date() + timedelta(days=1))
    assert known["event_id"].to_pylist() == ["e0", "e1"]


def test_a_file_that_holds_no_labels_is_named(tmp_path: Path) -> None:
    (tmp_path / "day=2026-01-05").mkdir()
    pq.write_table(pa.table({"event_id": ["e1"]}), tmp_path / "day=2026-01-05" / "wrong.parquet")
    with pytest.raises(CorruptValue, match=r"wrong\.parquet holds no labels: it has no column is_fraud, source"):
        read_labels(tmp_path)
