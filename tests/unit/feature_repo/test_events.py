"""Validation, pseudonyms and ingestion of events."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import orjson
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from referencing import Registry, Resource

from feature_repo.datasets import find, snapshot
from feature_repo.errors import CorruptValue, InvalidEvents, MissingData
from feature_repo.event_batch import EventBatch
from feature_repo.event_log import append, log_days, read_log
from feature_repo.event_schemas import CATALOGUE, EVENT_TYPES
from feature_repo.event_schemas.catalogue import read_schema
from feature_repo.event_schemas.validation import is_valid, validate
from feature_repo.ingestion import ingest_files, screen
from feature_repo.pseudonyms import Pseudonymiser, format_pseudonym, parse_pseudonym
from simulators.ride_hailing import days as world_days
from simulators.ride_hailing import read_events


@pytest.fixture(scope="module")
def events(small_world: Path) -> list[dict[str, Any]]:
    table = read_events(small_world, world_days(small_world)[3])
    return list(EventBatch.from_arrow(table).rows())


def reference_verdict(event: dict[str, Any]) -> bool:
    resources = [(f"{n}.v1.json", Resource.from_contents(read_schema(n))) for n in ("envelope", *EVENT_TYPES)]
    schema = read_schema(event["event_type"])
    return bool(jsonschema.Draft202012Validator(schema, registry=Registry().with_resources(resources)).is_valid(event))


MUTATIONS = st.sampled_from(sorted(CATALOGUE.fields))
VALUES = st.one_of(st.none(), st.integers(-5, 10**9), st.floats(-400, 4e7), st.sampled_from(["", "x", "a b", "card"]))


@given(data=st.data())
def test_validation_agrees_with_json_schema(events: list[dict[str, Any]], data: st.DataObject) -> None:
    event = dict(data.draw(st.sampled_from(events[:200])))
    name = data.draw(MUTATIONS.filter(lambda n: n != "event_type"))
    value = data.draw(VALUES)
    if value is None:
        event.pop(name, None)
    else:
        event[name] = value
    try:
        batch = EventBatch.from_rows([event])
        ours = not validate(batch)
        assert is_valid(batch.row(0)) == ours
    except InvalidEvents:
        ours = False
    assert ours == reference_verdict(event)


def test_an_error_names_row_field_and_reason(events: list[dict[str, Any]]) -> None:
    bad = [{**events[0]}, {**events[1], "pickup_lat": 95.0, "event_type": "trip_requested"}]
    messages = [str(e) for e in validate(EventBatch.from_rows(bad))]
    assert any("row 1" in m and "pickup_lat" in m and "between -90 and 90" in m for m in messages)


def test_unknown_fields_and_wrong_types_are_refused(events: list[dict[str, Any]]) -> None:
    with pytest.raises(InvalidEvents, match="row 0: field 'phone_number' is not a field of any event"):
        EventBatch.from_rows([{**events[0], "phone_number": "x"}])
    with pytest.raises(InvalidEvents, match="field 'event_timestamp' must be a JSON integer"):
        EventBatch.from_rows([{**events[0], "event_timestamp": True}])


@given(st.integers(0, 2**64 - 1), st.integers(1, 255))
def test_pseudonyms_round_trip(hash64: int, key_id: int) -> None:
    assert parse_pseudonym(format_pseudonym("driver", key_id, hash64)) == (key_id, hash64)


def test_pseudonyms_hide_ids_and_depend_on_the_key() -> None:
    one, other = Pseudonymiser(b"1" * 16), Pseudonymiser(b"2" * 16)
    assert "rider-000001" not in one("rider", "rider-000001")
    assert one("rider", "rider-000001") == one("rider", "rider-000001")
    assert one("rider", "rider-000001") != other("rider", "rider-000001")
    assert one("rider", "x").split("-")[1] != one("driver", "x").split("-")[1]


def test_a_bad_event_is_kept_as_a_dead_letter_and_harms_no_other(
    events: list[dict[str, Any]], pseudonymiser: Pseudonymiser
) -> None:
    batch = EventBatch.from_rows([events[0], {**events[1], "city": "?" * 200}, events[2]])
    screened = screen(batch, pseudonymiser, batch["event_timestamp"])
    assert screened.kept.tolist() == [0, 2]
    assert {e.row for e in screened.refused} == {1}


def test_ingested_files_with_bad_events_keep_them_in_a_dead_letter_file(
    small_world: Path, pseudonymiser: Pseudonymiser, tmp_path: Path
) -> None:
    day = world_days(small_world)[0]
    table = read_events(small_world, day)
    cities = table.column("city").to_pylist()
    cities[5], cities[7] = "NOWHERE", ""
    folder = tmp_path / "events" / f"day={day}"
    folder.mkdir(parents=True)
    pq.write_table(table.set_column(table.schema.get_field_index("city"), "city", [cities]), folder / "events.parquet")
    taken = ingest_files(tmp_path / "events", tmp_path / "log", pseudonymiser)
    assert taken == len(table) - 2 == len(read_log(tmp_path / "log"))
    letters = [orjson.loads(line) for line in (tmp_path / "log" / "dead_letters.jsonl").read_bytes().splitlines()]
    ids = table.column("event_id").to_pylist()
    assert {letter["event"]["event_id"] for letter in letters} == {ids[5], ids[7]}
    assert all(letter["reasons"][0].startswith("city ") for letter in letters)


def test_ingestion_numbers_events_in_arrival_order(small_log: Path) -> None:
    log = read_log(small_log)
    assert log.column("stream_seq").to_pylist() == list(range(1, len(log) + 1))
    arrived = log.column("ingested_at").to_pandas()
    assert arrived.is_monotonic_increasing
    assert all(i.startswith("r1-") for i in log.column("rider_id").to_pylist())


def test_a_log_whose_files_overlap_is_read_in_stream_order(small_log: Path, tmp_path: Path) -> None:
    log = read_log(small_log)
    for first in (1, 0):
        append(tmp_path, log.take(list(range(first, len(log), 2))))
    assert read_log(tmp_path).equals(log)


def test_ingesting_twice_is_refused(small_world: Path, small_log: Path, pseudonymiser: Pseudonymiser) -> None:
    with pytest.raises(MissingData, match="already holds events"):
        ingest_files(small_world / "events", small_log, pseudonymiser)


def test_a_dataset_is_named_by_its_content_and_guards_it(small_world: Path, small_log: Path, tmp_path: Path) -> None:
    cutoff = log_days(small_log)[-2]
    one = snapshot(small_log, small_world / "labels", tmp_path, cutoff)
    again = snapshot(small_log, small_world / "labels", tmp_path, cutoff)
    assert one == again
    assert one.last_day < cutoff
    observed = one.label_frame()["observed_at"]
    assert observed.max().date() < cutoff
    assert find(tmp_path, one.sha256[:5]) == one
    victim = next((one.path / "events").rglob("*.parquet"))
    victim.write_bytes(victim.read_bytes() + b"x")
    with pytest.raises(CorruptValue, match="was changed"):
        find(tmp_path, one.sha12)
    with pytest.raises(MissingData, match="0 datasets match 'nothing'"):
        find(tmp_path, "nothing")


def test_arrow_round_trip_keeps_every_value(events: list[dict[str, Any]]) -> None:
    batch = EventBatch.from_rows(events[:300])
    back = EventBatch.from_arrow(batch.to_arrow())
    for name in CATALOGUE.fields:
        np.testing.assert_array_equal(batch.present[name], back.present[name])
    assert list(back.rows()) == events[:300]
