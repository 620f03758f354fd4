"""How a day is cut for replay."""

from __future__ import annotations

from typing import Any

from feature_repo.event_batch import EventBatch
from pipelines.replay import strangers


def event(rider: str, driver: str | None = None, device: str = "") -> dict[str, Any]:
    given = {"rider_id": rider, "driver_id": driver, "device_id": device or f"phone-of-{rider}"}
    common = {"event_id": "e", "event_type": "trip_requested", "event_timestamp": 1, "city": "tehran"}
    return common | {name: value for name, value in given.items() if value is not None}


def runs(*events: dict[str, Any], most: int = 8) -> list[list[int]]:
    return [run.tolist() for run in strangers(EventBatch.from_rows(events), most)]


def test_events_that_share_an_entity_do_not_go_together() -> None:
    assert runs(event("a", "x"), event("b", "y"), event("c", "x"), event("a")) == [[0, 1], [2, 3]]
    assert runs(event("a", device="p"), event("b", device="p")) == [[0], [1]]


def test_the_same_text_names_different_entities_of_different_kinds() -> None:
    assert runs(event("a", "b"), event("b", "a")) == [[0, 1]]


def test_runs_are_bounded_and_cover_the_batch() -> None:
    assert runs(*(event(str(n)) for n in range(5)), most=2) == [[0, 1], [2, 3], [4]]
    assert runs(event("a")) == [[0]]
