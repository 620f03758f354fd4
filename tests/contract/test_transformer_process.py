"""The transformer as a process: V2 in, decisions out and on the stream, and what it refuses."""

from __future__ import annotations

import asyncio
import re
import time
from typing import Any

import httpx
import orjson
import pytest
import redis

from inference_services.transformer.decisions import STREAM
from tests.contract.conftest import Service
from tests.contract.fusion_bundle import NAME, PAYMENT


def tensors_of(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    names = sorted({name for event in events for name in event})
    result = []
    for name in names:
        values = [event.get(name) for event in events]
        sample = next(v for v in values if v is not None)
        datatype = "BYTES" if isinstance(sample, str) else "BOOL" if isinstance(sample, bool) else "INT64"
        datatype = "FP64" if isinstance(sample, float) else datatype
        absent = {"BYTES": "", "INT64": 0, "BOOL": False, "FP64": None}[datatype]
        data = [absent if v is None else v for v in values]
        result.append({"name": name, "datatype": datatype, "shape": [len(data)], "data": data})
        if datatype in {"INT64", "BOOL"} and None in values:
            mask = [v is not None for v in values]
            result.append({"name": f"{name}_present", "datatype": "BOOL", "shape": [len(data)], "data": mask})
    return result


def post(service: Any, inputs: list[dict[str, Any]]) -> httpx.Response:
    return httpx.post(f"{service.url}/v2/models/{NAME}/infer", json={"inputs": inputs}, timeout=30)


def test_process_decides_and_publishes(transformer: Any, redis_server: Any):
    trip = {
        "event_id": "e2",
        "event_type": "trip_completed",
        "event_timestamp": PAYMENT["event_timestamp"],
        "rider_id": PAYMENT["rider_id"],
        "driver_id": "d1-00000000000000dd",
        "device_id": PAYMENT["device_id"],
        "city": "tehran",
        "trip_id": "t2",
    }
    from feature_repo.event_schemas import CATALOGUE

    samples = {"string": "card", "integer": 5, "number": 35.5, "boolean": True}
    for name in CATALOGUE.required["trip_completed"] - trip.keys():
        trip[name] = samples[CATALOGUE.fields[name].json_type]
    events = [{**PAYMENT, "event_id": f"pay-{i}"} if i % 2 else {**trip, "event_id": f"trip-{i}"} for i in range(40)]
    before = degraded(transformer)
    response = post(transformer, tensors_of(events))
    assert response.status_code == 200, response.text
    outputs = {o["name"]: o["data"] for o in response.json()["outputs"]}
    assert all(len(values) == 40 for values in outputs.values())
    assert set(outputs["degraded"]) == {"gnn"}
    assert set(outputs["gnn_probability"]) == {-1.0}
    assert all(0 <= p <= 1 for p in outputs["fraud_probability"])
    with redis.Redis.from_url(redis_server.url) as client:
        records = wait_for_records(client, {event["event_id"] for event in events})
    by_id = dict(zip((event["event_id"] for event in events), outputs["fraud_probability"], strict=True))
    assert {r["event_id"]: r["fraud_probability"] for r in records} == by_id
    assert {r["revision"] for r in records} == {"fraud-detector-00002"}
    assert {r["request_id"] for r in records} == {response.json()["id"]}
    flagged = [r for r in records if r["decision"] != "allow"]
    assert flagged
    assert all(bool(r["reasons"]) == (r["decision"] != "allow") for r in records)
    texts = {
        reason["text"] for r in flagged if r["event"]["event_type"] == "payment_authorized" for reason in r["reasons"]
    }
    assert "amount of 250,000 toman; payments like this have 17 toman" in texts
    assert degraded(transformer) == before + 40


def degraded(service: Service) -> float:
    """How many decisions were made without the graph model."""
    lines = httpx.get(f"{service.url}/metrics").text.splitlines()
    counted = re.compile(r'fraud_degraded_total{missing="gnn",.*,revision="fraud-detector-00002"} (.+)')
    return sum(float(match[1]) for match in map(counted.fullmatch, lines) if match)


def wait_for_records(client: Any, ids: set[str]) -> list[dict[str, Any]]:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        records = [orjson.loads(fields[b"decision"]) for _, fields in client.xrange(STREAM)]
        mine = [r for r in records if r.get("event_id") in ids]
        if {r["event_id"] for r in mine} == ids:
            return mine
        time.sleep(0.05)
    raise AssertionError("the decisions did not reach the stream")


def changed(**changes: Any) -> list[dict[str, Any]]:
    return tensors_of([{k: v for k, v in {**PAYMENT, **changes}.items() if v is not None}])


BAD = {
    "missing field": (changed(amount=None), "row 0: field 'amount' is required for payment_authorized"),
    "field of another type": (changed(promo_code="X"), "row 0: field 'promo_code' does not belong"),
    "unscored type": (changed(event_type="trip_cancelled"), "row 0: field"),
    "unknown type": (changed(event_type="teleported"), "row 0: field 'event_type' must be one of"),
    "raw id": (changed(rider_id="09121234567"), "row 0: field 'rider_id' is not a pseudonym"),
    "id of another kind": (changed(rider_id="d1-00000000000000dd"), "row 0: field 'rider_id' is not a pseudonym"),
    "out of range": (changed(amount=-1), "row 0: field 'amount' must be between"),
    "wrong datatype": (changed(amount=2.5), "field 'amount' must have datatype INT64"),
    "unknown field": (changed(shoe_size=44), "field 'shoe_size' is not an event field"),
    "mask without its field": (
        [*changed(), {"name": "surge_present", "datatype": "BOOL", "shape": [1], "data": [True]}],
        "field 'surge_present' is not an event field",
    ),
    "unequal lengths": (
        [*changed(), {"name": "surge", "datatype": "FP64", "shape": [2], "data": [1.0, 1.0]}],
        "field 'surge' has 2 rows",
    ),
    "empty batch": ([{"name": "event_id", "datatype": "BYTES", "shape": [0], "data": []}], "is empty"),
    "too many rows": (tensors_of([PAYMENT] * 1025), "has 1025 rows"),
}


@pytest.mark.parametrize("raw", ["+98 912 123 4567", "+989121234567", "۰۹۱۲۱۲۳۴۵۶۷"])
@pytest.mark.parametrize("field", ["rider_id", "device_id", "payment_instrument_id"])
def test_a_raw_phone_number_is_refused_without_being_repeated(field: str, raw: str, transformer: Any):
    response = post(transformer, changed(**{field: raw}))
    assert response.status_code == 400, response.text
    assert repr(field) in response.json()["error"]
    assert raw not in response.json()["error"]


@pytest.mark.parametrize("case", BAD)
def test_invalid_event_is_400_and_names_field_and_row(case: str, transformer: Any):
    inputs, message = BAD[case]
    response = post(transformer, inputs)
    assert response.status_code == 400, response.text
    assert message in response.json()["error"]
    assert "09121234567" not in response.text


async def test_a_batch_is_decided_as_its_events_alone_and_together(transformer: Service):
    events = [{**PAYMENT, "event_id": f"both-{i}", "amount": 1 + i} for i in range(150)]
    # More at a time would be shed.
    few = httpx.Limits(max_connections=8)
    async with httpx.AsyncClient(base_url=transformer.url, timeout=30, limits=few) as client:

        async def ask(*of: dict[str, Any]) -> dict[str, list[Any]]:
            answer = await client.post(f"/v2/models/{NAME}/infer", json={"inputs": tensors_of([*of])})
            return {o["name"]: o["data"] for o in answer.raise_for_status().json()["outputs"]}

        batch = await ask(*events)
        alone = [await ask(event) for event in events[:20]]
        together = await asyncio.gather(*map(ask, events))
    assert len(set(batch["fraud_probability"])) > 5
    for singles in (alone, together):
        for name, values in batch.items():
            assert [single[name][0] for single in singles] == values[: len(singles)], name
