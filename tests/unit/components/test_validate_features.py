"""Batch features with one broken column are refused, and the message says which view, column, rule and row."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from components.errors import InvalidFeatures
from components.validate_features.logic import check_features
from components.volumes import VolumeSettings
from components.write_profiles.logic import write_profiles
from feature_repo.datasets import Dataset
from feature_repo.errors import CorruptValue, MissingData
from feature_repo.event_log import log_days
from feature_repo.pseudonyms import ENTITY_KINDS, format_pseudonym
from feature_repo.settings import EMBEDDING_DIM

VERSION = "0123456789ab"
Spoil = Callable[[pd.DataFrame], Any]


class Staged:
    """The folders that the check reads, with real profiles and made-up embeddings."""

    def __init__(self, dataset: Dataset, root: Path) -> None:
        self.profiles, self.embeddings, self.published = (root / n for n in ("profiles", "embeddings", "published"))
        self.cutoff = datetime.combine(dataset.cutoff, time(), UTC)
        self.log = dataset.path / "events"
        self.labels = dataset.path / "labels"
        write_profiles(self.log, self.labels, self.cutoff, self.profiles)
        for kind in ENTITY_KINDS:
            ids = [format_pseudonym(kind, 1, n) for n in range(20)]
            vectors = [row.tolist() for row in np.zeros((19, EMBEDDING_DIM), np.float32)] + [None]
            self.write_embeddings(kind, ids, vectors)

    def write_embeddings(self, kind: str, ids: list[str], vectors: list[Any]) -> None:
        file = self.embeddings / "embeddings" / VERSION / f"{kind}.parquet"
        file.parent.mkdir(parents=True, exist_ok=True)
        stamps = pa.array([self.cutoff] * len(ids), pa.timestamp("us", "UTC"))
        embeddings = pa.array(vectors, pa.list_(pa.float32()))
        pq.write_table(pa.table({f"{kind}_id": ids, "embedding": embeddings, "event_timestamp": stamps}), file)

    def spoil(self, view: str, change: Spoil) -> None:
        file = self.profiles / f"{view}.parquet"
        table = pq.read_table(file)
        frame = table.to_pandas(types_mapper=pd.ArrowDtype)
        changed = change(frame)
        pq.write_table(pa.Table.from_pandas(frame if changed is None else changed, preserve_index=False), file)

    def check(self, **settings: float) -> dict[str, dict[str, Any]]:
        return check_features(
            self.profiles, self.embeddings, self.published, self.cutoff, VolumeSettings.model_validate(settings)
        )


@pytest.fixture
def staged(small_dataset: Dataset, tmp_path: Path) -> Staged:
    return Staged(small_dataset, tmp_path)


def put(column: str, value: Any, row: int = 3) -> Spoil:
    def change(frame: pd.DataFrame) -> None:
        frame.loc[row, column] = value

    return change


def test_good_features_pass_and_the_first_run_says_that_it_is_the_first(staged: Staged) -> None:
    report = staged.check()
    assert set(report) == {
        *(f"{kind}_profile" for kind in (*ENTITY_KINDS, "city")),
        *(f"{kind}_embedding_{VERSION}" for kind in ENTITY_KINDS),
    }
    assert {r["volumes"] for r in report.values()} == {"nothing to compare with: this is the first"}
    assert report["rider_profile"]["rows"] > 500


BROKEN: dict[str, tuple[str, Spoil, str]] = {
    "a negative count": (
        "rider_profile",
        put("rider_lifetime_trips", -1),
        r"'rider_lifetime_trips' breaks the rule `must be at least 0` in 1 of [\d,]+ rows, first in row 3 with -1",
    ),
    "a negative count of frauds": (
        "rider_profile",
        put("rider_confirmed_frauds", -1),
        "'rider_confirmed_frauds' breaks the rule `must be at least 0`",
    ),
    "a fraud from before time": (
        "driver_profile",
        put("driver_last_fraud_us", -2),
        "'driver_last_fraud_us' breaks the rule `must be at least -1`",
    ),
    "an empty count": (
        "driver_profile",
        put("driver_lifetime_trips", None),
        "'driver_lifetime_trips' breaks the rule `must not be empty`",
    ),
    "first seen after it was published": (
        "device_profile",
        put("device_first_seen_us", 4_000_000_000_000_000),
        "'device_first_seen_us' breaks the rule `must not lie after event_timestamp`",
    ),
    "a raw id": (
        "payment_instrument_profile",
        put("payment_instrument_id", "6037-9911-0000-0000"),
        "'payment_instrument_id' breaks the rule `must match .*` in 1 of [\\d,]+ rows, first in row 3$",
    ),
    "an infinite norm": (
        "city_profile",
        put("city_speed_kmh", float("inf")),
        "'city_speed_kmh' breaks the rule `must be finite, at least 0`",
    ),
    "a norm that is no number": (
        "city_profile",
        lambda frame: frame.assign(city_gps_accuracy_m=pd.arrays.ArrowExtensionArray(pa.array([np.nan] * len(frame)))),
        "'city_gps_accuracy_m' breaks the rule `must be finite, at least 0`",
    ),
    "norms that nobody knows": (
        "city_profile",
        lambda frame: frame.assign(city_fare_per_km=frame["city_fare_per_km"].mask(frame.index > 1)),
        "'city_fare_per_km' breaks the rule `must be known in 80% of the rows`",
    ),
    "a row from after the cutoff": (
        "city_profile",
        put("event_timestamp", datetime(2027, 1, 1, tzinfo=UTC)),
        "'event_timestamp' breaks the rule `must not lie after the cutoff",
    ),
    "two rows of an entity at one instant": (
        "rider_profile",
        lambda frame: pd.concat([frame, frame.iloc[[5]]], ignore_index=True),
        "'event_timestamp' breaks the rule `must not repeat` in 2",
    ),
    "a column that is gone": (
        "rider_profile",
        lambda frame: frame.drop(columns=["rider_first_seen_us"]),
        "rider_profile: column 'rider_first_seen_us' is missing",
    ),
    "a column of another type": (
        "rider_profile",
        lambda frame: frame.astype({"rider_lifetime_trips": "double[pyarrow]"}),
        r"'rider_lifetime_trips' is of type double\[pyarrow\], not int64\[pyarrow\]",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_column_is_named(staged: Staged, case: str) -> None:
    view, change, message = BROKEN[case]
    staged.spoil(view, change)
    with pytest.raises(InvalidFeatures, match=message) as caught:
        staged.check()
    assert str(caught.value).startswith(f"{view}: column")
    assert "6037" not in str(caught.value)


@pytest.mark.parametrize("vector", [[0.0] * (EMBEDDING_DIM - 1), [], [float("nan")] * EMBEDDING_DIM])
def test_an_embedding_that_is_cut_short_or_not_finite_is_named(staged: Staged, vector: list[float]) -> None:
    good = [1.0] * EMBEDDING_DIM
    staged.write_embeddings("rider", [format_pseudonym("rider", 1, n) for n in range(4)], [good, None, vector, good])
    with pytest.raises(InvalidFeatures, match=r"'embedding' breaks the rule `must be 16 finite numbers` .* row 2 with"):
        staged.check()


def test_a_file_that_is_missing_or_cut_short_is_named(staged: Staged) -> None:
    file = staged.profiles / "device_profile.parquet"
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(CorruptValue, match=r"device_profile\.parquet cannot be read as parquet"):
        staged.check()
    file.unlink()
    with pytest.raises(MissingData, match="for the view device_profile"):
        staged.check()


def test_volumes_are_held_against_the_published_files(staged: Staged) -> None:
    staged.published.mkdir()
    earlier = staged.cutoff - timedelta(days=3)
    for file in staged.profiles.glob("*.parquet"):
        pq.write_table(pq.read_table(file, filters=[("event_timestamp", "<=", earlier)]), staged.published / file.name)
    report = staged.check()
    assert report["rider_profile"]["volumes"] == "compared with the published file"
    with pytest.raises(InvalidFeatures, match=r"compared with the published file: view '\w+' has .* on the 3 new days"):
        staged.check(least_share=1.0, most_share=1.0)

    def thin_out(frame: pd.DataFrame) -> pd.DataFrame:
        return frame[(frame.index % 5 != 0) | (frame["event_timestamp"] > frame["event_timestamp"].min())]

    staged.spoil("rider_profile", thin_out)
    with pytest.raises(InvalidFeatures, match=r"view 'rider_profile' has \d+ rows on .*, and had \d+ in the previous"):
        staged.check()


def test_labels_from_after_the_cutoff_are_not_used(small_dataset: Dataset, tmp_path: Path) -> None:
    """A label log goes on after the cutoff, as a simulated world's does; the smaller log of the cutoff does not."""
    cutoff = datetime.combine(small_dataset.cutoff, time(), UTC) - timedelta(days=2)
    for day in log_days(small_dataset.path / "labels"):
        if day < cutoff.date():
            shutil.copytree(small_dataset.path / "labels" / f"day={day}", tmp_path / "until" / f"day={day}")
    for name, labels in (("all", small_dataset.path / "labels"), ("until", tmp_path / "until")):
        write_profiles(small_dataset.path / "events", labels, cutoff, tmp_path / name / "out")
    one, two = (
        pq.read_table(tmp_path / name / "out" / "rider_profile.parquet").sort_by(
            [("rider_id", "ascending"), ("event_timestamp", "ascending")]
        )
        for name in ("all", "until")
    )
    assert one.equals(two)
    assert pc.max(one["rider_confirmed_frauds"]).as_py() > 0
    assert pc.max(one["event_timestamp"]).as_py() <= cutoff


@pytest.mark.parametrize("exists", [True, False])
def test_without_labels_nobody_has_a_confirmed_fraud_and_the_log_says_so_once(
    staged: Staged, tmp_path: Path, caplog: pytest.LogCaptureFixture, exists: bool
) -> None:
    empty = tmp_path / "no_labels"
    if exists:
        empty.mkdir()
    write_profiles(staged.log, empty, staged.cutoff, staged.profiles)
    said = [record.getMessage() for record in caplog.records if "confirmed fraud" in record.getMessage()]
    assert said == [f"no labels observed before {staged.cutoff.date()} in {empty}: nobody has a confirmed fraud"]
    profiles = pq.read_table(staged.profiles / "driver_profile.parquet")
    assert pc.max(profiles["driver_confirmed_frauds"]).as_py() == 0
    assert pc.max(profiles["driver_last_fraud_us"]).as_py() == -1
    staged.check()


def test_a_run_does_not_publish_less_than_the_run_before(staged: Staged) -> None:
    staged.profiles.rename(staged.published)
    staged.cutoff -= timedelta(days=2)
    write_profiles(staged.log, staged.labels, staged.cutoff, staged.profiles)
    with pytest.raises(InvalidFeatures, match=r"has rows that were published at .*: choose a later cutoff"):
        staged.check()
