from __future__ import annotations

import json
import shutil
from datetime import date, timedelta
from itertools import product
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from pandera.errors import SchemaErrors

from components.errors import InvalidDataset
from components.validate_events.logic import (
    check_against_previous,
    check_dataset,
    check_labels,
    check_schema,
    check_volumes,
)
from components.validate_events.schema import event_frame, event_schema
from components.volumes import VolumeSettings
from feature_repo.datasets import Dataset, snapshot
from feature_repo.errors import CorruptValue
from feature_repo.event_batch import EventBatch
from feature_repo.event_log import log_days
from feature_repo.event_schemas import CATALOGUE, EVENT_TYPES, FieldSpec
from feature_repo.event_schemas.validation import validate
from feature_repo.ingestion import ingest_files
from feature_repo.pseudonyms import Pseudonymiser


@pytest.fixture(scope="module")
def events(small_dataset: Dataset) -> pa.Table:
    return small_dataset.event_table()


def with_column(table: pa.Table, name: str, values: object) -> pa.Table:
    return table.set_column(table.column_names.index(name), name, values)


def test_a_good_dataset_is_reported(small_dataset: Dataset) -> None:
    report = check_dataset(small_dataset, VolumeSettings())
    assert (report.sha256, report.days) == (small_dataset.sha256, 8)
    assert report.events == small_dataset.events
    assert sum(report.labels.values()) == small_dataset.labels
    assert (report.unknown_events, report.contradicted_events) == (0, 0)
    json.dumps(report.as_dict())


def test_an_altered_byte_is_found(small_dataset: Dataset, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(small_dataset.path, copy)
    victim = next(copy.glob("labels/day=*/*.parquet"))
    victim.write_bytes(victim.read_bytes() + b"\0")
    with pytest.raises(CorruptValue, match="was changed"):
        check_dataset(Dataset.open(copy), VolumeSettings())


def test_a_missing_column_is_named(events: pa.Table) -> None:
    with pytest.raises(InvalidDataset, match="column 'amount' is missing"):
        check_schema(events.drop_columns(["amount"]))


def spoilt(spec: FieldSpec) -> list[object]:
    """What the field may hold and what it may not, at both sides of every bound."""
    if spec.json_type == "string":
        length = spec.max_length or 5
        return [None, "", "a" * length, "a" * (length + 1), "a b", "a\n", "a", "é", *spec.enum[:1]]
    if spec.json_type == "boolean":
        return [None, True, False]
    low, high = spec.minimum or 0, spec.maximum or 0
    step = 1 if spec.json_type == "integer" else 1e-3
    values: list[object] = [None, *(type(step)(v) for v in (low - step, low, high, high + step))]
    return values if spec.json_type == "integer" else [*values, float("nan"), float("inf")]


def refused_cells(table: pa.Table, event_type: str) -> set[tuple[str, int]]:
    try:
        event_schema(event_type).validate(event_frame(table), lazy=True)
    except SchemaErrors as found:
        return {(p.column_name, int(row)) for p in found.schema_errors for row in p.failure_cases["index"]}
    return set()


@pytest.mark.slow
def test_the_schemas_say_what_ingestion_says_of_every_field(events: pa.Table) -> None:
    """One definition, two ways to check it: whatever ingestion would refuse is refused here, and nothing else."""
    types = events.column("event_type").to_pylist()
    refused = 0
    for event_type, (name, spec) in product(EVENT_TYPES, CATALOGUE.fields.items()):
        if name == "event_type":
            continue
        values = spoilt(spec)
        copies = events.take([types.index(event_type)] * len(values))
        kind = copies.schema.field(name).type
        given = pa.array(values, pa.int64() if pa.types.is_timestamp(kind) else kind, from_pandas=False).cast(kind)
        table = with_column(copies, name, given)
        expected = {(breach.field, breach.row) for breach in validate(EventBatch.from_arrow(table))}
        assert refused_cells(table, event_type) == expected, (event_type, name)
        refused += len(expected)
    assert refused > 500


def test_an_unknown_event_type_is_named(events: pa.Table) -> None:
    types = pa.array(["teleported", *events.column("event_type").to_pylist()[1:]])
    with pytest.raises(InvalidDataset, match=r"'event_type' breaks .* first in row 0 with 'teleported'"):
        check_schema(with_column(events, "event_type", types))


def test_an_error_names_nobody(events: pa.Table) -> None:
    ids = events.column("rider_id").to_pylist()
    ids[3] = "+98 912 000 0000"
    with pytest.raises(
        InvalidDataset, match=r"column 'rider_id' breaks the rule `must be a pseudonym` .* first in row 3$"
    ) as caught:
        check_schema(with_column(events, "rider_id", pa.array(ids)))
    assert "912" not in str(caught.value)


def test_a_column_of_another_type_is_named(events: pa.Table) -> None:
    amounts = events.column("amount").cast(pa.float64())
    with pytest.raises(InvalidDataset, match=r"column 'amount' is of type double\[pyarrow\], not int64\[pyarrow\]"):
        check_schema(with_column(events, "amount", amounts))


def test_an_event_that_breaks_its_schema_is_named(events: pa.Table) -> None:
    cities = pc.if_else(pc.equal(pa.array(range(len(events))), 5), "Not A City", events.column("city"))
    with pytest.raises(
        InvalidDataset,
        match=r"column 'city' breaks the rule `must match .*` in 1 of [\d,]+ rows, first in row 5 with 'Not A City'",
    ):
        check_schema(with_column(events, "city", cities))


def test_repeated_sequence_numbers_are_refused(events: pa.Table) -> None:
    same = pa.array([1] * len(events), pa.int64())
    with pytest.raises(InvalidDataset, match=r"'stream_seq' breaks the rule `must not repeat` in [\d,]+ of"):
        check_schema(with_column(events, "stream_seq", same))


def test_a_lost_day_is_named(events: pa.Table, small_dataset: Dataset) -> None:
    lost = small_dataset.first_day + timedelta(days=3)
    days = pc.strftime(events.column("ingested_at"), "%Y-%m-%d")
    with pytest.raises(InvalidDataset, match=f"0 arrived on {lost}"):
        check_volumes(events.filter(pc.not_equal(days, str(lost))), small_dataset.first_day, small_dataset.last_day)


def test_an_empty_week_is_named_even_where_most_days_are_empty(events: pa.Table, small_dataset: Dataset) -> None:
    """The median day is empty then, and nothing is less than it."""
    days = pc.strftime(events.column("ingested_at"), "%Y-%m-%d")
    kept = events.filter(pc.equal(days, str(small_dataset.first_day)))
    with pytest.raises(InvalidDataset, match=f"0 arrived on {small_dataset.first_day + timedelta(days=1)}"):
        check_volumes(kept, small_dataset.first_day, small_dataset.last_day)


def test_an_event_that_is_in_the_log_twice_is_refused(events: pa.Table) -> None:
    ids = pa.array([events["event_id"][1].as_py(), *events["event_id"].to_pylist()[1:]])
    with pytest.raises(InvalidDataset, match=r"'event_id' breaks the rule `must not repeat` in 2 of"):
        check_schema(with_column(events, "event_id", ids))


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        (
            "source",
            "rumour",
            r"'source' breaks the rule `must be one of .*reviewer` in 1 of 54 rows, first in row \d+ with 'rumour'",
        ),
        (
            "observed_at",
            pd.Timestamp("2031-01-01", tz="UTC"),
            "'observed_at' breaks the rule `must lie before the cutoff 2026-01-11` in 1",
        ),
        ("observed_at", pd.Timestamp("2001-01-01", tz="UTC"), "'observed_at' lies before its event in 1"),
        ("is_fraud", None, "'is_fraud' breaks the rule `must not be empty` in 1"),
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


@pytest.fixture
def two_datasets(small_world: Path, pseudonymiser: Pseudonymiser, tmp_path: Path) -> tuple[Dataset, Dataset]:
    """The same company's dataset of its first six days, and of eight."""
    ingest_files(small_world / "events", tmp_path / "log", pseudonymiser, days=8)
    days = log_days(tmp_path / "log")
    first, second = (
        snapshot(tmp_path / "log", small_world / "labels", tmp_path / "datasets", days[i] + timedelta(days=1))
        for i in (5, 7)
    )
    return first, second


def test_the_first_dataset_has_nothing_to_compare_with_and_says_so(two_datasets: tuple[Dataset, Dataset]) -> None:
    first, second = two_datasets
    assert check_dataset(first, VolumeSettings()).volumes == "nothing to compare with: this is the first"
    assert check_dataset(second, VolumeSettings()).volumes == f"compared with dataset {first.sha12}"


def test_volumes_far_from_the_previous_dataset_s_stop_the_run(two_datasets: tuple[Dataset, Dataset]) -> None:
    first, second = two_datasets
    strict = VolumeSettings(least_share=1.0, most_share=1.0)
    with pytest.raises(InvalidDataset, match=rf"compared with dataset {first.sha12}: event_type '\w+' has [\d,]+ rows"):
        check_dataset(second, strict)


def test_a_day_that_lost_events_since_the_previous_dataset_is_named(two_datasets: tuple[Dataset, Dataset]) -> None:
    first, second = two_datasets
    day = first.first_day + timedelta(days=2)
    (file,) = (second.path / "events" / f"day={day}").glob("*.parquet")
    pq.write_table(pq.ParquetFile(file).read().slice(20), file)
    with pytest.raises(InvalidDataset, match=rf"rows on {day}, and had \d+ in the previous run"):
        check_against_previous(second, VolumeSettings())


def test_labels_without_any_fraud_are_refused(small_dataset: Dataset, events: pa.Table) -> None:
    with pytest.raises(InvalidDataset, match="'is_fraud' says fraud 0 times"):
        check_labels(small_dataset.label_frame().assign(is_fraud=False), events, date(2031, 1, 1))


def test_no_labels_at_all_are_refused(small_dataset: Dataset, events: pa.Table) -> None:
    with pytest.raises(InvalidDataset, match="'is_fraud' says fraud 0 times in 0 labels"):
        check_labels(small_dataset.label_frame().iloc[:0], events, small_dataset.cutoff)


def test_fraud_everywhere_is_a_broken_feed(small_dataset: Dataset, events: pa.Table) -> None:
    labels = small_dataset.label_frame().assign(is_fraud=True)
    few = events.filter(pc.is_in(events["event_id"], value_set=pa.array(labels["event_id"])))
    with pytest.raises(InvalidDataset, match="more than 20%"):
        check_labels(labels, few, small_dataset.cutoff)


def test_a_few_labels_of_unknown_events_are_counted_and_many_are_refused(
    small_dataset: Dataset, events: pa.Table
) -> None:
    labels = small_dataset.label_frame()
    labels.loc[labels.index[:2], "event_id"] = ["elsewhere-1", "elsewhere-2"]
    assert check_labels(labels, events, small_dataset.cutoff) == 2
    labels["event_id"] = [f"elsewhere-{i}" for i in range(len(labels))]
    with pytest.raises(InvalidDataset, match=rf"names {len(labels)} events that are not in the log, of {len(labels)}"):
        check_labels(labels, events, small_dataset.cutoff)


def test_labels_that_contradict_each_other_are_counted(
    small_world: Path, pseudonymiser: Pseudonymiser, tmp_path: Path
) -> None:
    shutil.copytree(small_world / "labels", tmp_path / "labels")
    ingest_files(small_world / "events", tmp_path / "log", pseudonymiser, days=8)
    file = sorted((tmp_path / "labels").glob("day=*/*.parquet"))[2]
    labels = pq.ParquetFile(file).read()
    against = with_column(labels, "is_fraud", pc.invert(labels["is_fraud"]))
    pq.write_table(pa.concat_tables([labels, against]), file)
    cutoff = log_days(tmp_path / "log")[-1] + timedelta(days=1)
    report = check_dataset(snapshot(tmp_path / "log", tmp_path / "labels", tmp_path / "d", cutoff), VolumeSettings())
    assert report.contradicted_events == len(set(labels["event_id"].to_pylist()))
