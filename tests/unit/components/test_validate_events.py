from __future__ import annotations

import json
import shutil
from datetime import date, timedelta
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from components.errors import InvalidDataset
from components.validate_events.logic import check_dataset, check_labels, check_schema, check_volumes
from feature_repo.datasets import Dataset
from feature_repo.errors import CorruptValue


@pytest.fixture(scope="module")
def events(small_dataset: Dataset) -> pa.Table:
    return small_dataset.event_table()


def with_column(table: pa.Table, name: str, values: object) -> pa.Table:
    return table.set_column(table.column_names.index(name), name, values)


def test_a_good_dataset_is_reported(small_dataset: Dataset) -> None:
    report = check_dataset(small_dataset)
    assert (report.sha256, report.days) == (small_dataset.sha256, 8)
    assert report.events == small_dataset.events
    assert sum(report.labels.values()) == small_dataset.labels
    json.dumps(report.as_dict())


def test_an_altered_byte_is_found(small_dataset: Dataset, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(small_dataset.path, copy)
    victim = next(copy.glob("labels/day=*/*.parquet"))
    victim.write_bytes(victim.read_bytes() + b"\0")
    with pytest.raises(CorruptValue, match="was changed"):
        check_dataset(Dataset.open(copy))


def test_a_missing_column_is_named(events: pa.Table) -> None:
    with pytest.raises(InvalidDataset, match="column 'amount' is missing"):
        check_schema(events.drop_columns(["amount"]))


def test_an_event_that_breaks_its_schema_is_named(events: pa.Table) -> None:
    cities = pc.if_else(pc.equal(pa.array(range(len(events))), 5), "Not A City", events.column("city"))
    with pytest.raises(InvalidDataset, match="row 5: field 'city'"):
        check_schema(with_column(events, "city", cities))


def test_repeated_sequence_numbers_are_refused(events: pa.Table) -> None:
    same = pa.array([1] * len(events), pa.int64())
    with pytest.raises(InvalidDataset, match="'stream_seq' repeats"):
        check_schema(with_column(events, "stream_seq", same))


def test_a_lost_day_is_named(events: pa.Table, small_dataset: Dataset) -> None:
    lost = small_dataset.first_day + timedelta(days=3)
    days = pc.strftime(events.column("ingested_at"), "%Y-%m-%d")
    with pytest.raises(InvalidDataset, match=f"0 arrived on {lost}"):
        check_volumes(events.filter(pc.not_equal(days, str(lost))), small_dataset.first_day, small_dataset.last_day)


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("source", "rumour", "'source' has 'rumour'"),
        ("observed_at", pd.Timestamp("2031-01-01", tz="UTC"), "'observed_at' has 1 labels from after"),
        ("observed_at", pd.Timestamp("2001-01-01", tz="UTC"), "'observed_at' lies before its event in 1"),
        ("is_fraud", None, "'is_fraud' has 1 empty"),
    ],
)
def test_a_bad_label_names_its_column(
    small_dataset: Dataset, events: pa.Table, column: str, value: object, message: str
) -> None:
    labels = small_dataset.label_frame().astype({"is_fraud": object})
    known = labels["event_id"].isin(events.column("event_id").to_pylist())
    labels.loc[known.idxmax(), column] = value
    with pytest.raises(InvalidDataset, match=message):
        check_labels(labels, events, small_dataset.cutoff)


def test_labels_without_any_fraud_are_refused(small_dataset: Dataset, events: pa.Table) -> None:
    with pytest.raises(InvalidDataset, match="'is_fraud' says fraud 0 times"):
        check_labels(small_dataset.label_frame().assign(is_fraud=False), events, date(2031, 1, 1))
