"""Ingestion over HTTP, as processes on a real Redis: every event is told what became of it, and none is lost."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
import redis
from prometheus_client import REGISTRY

from feature_repo.ingestion_service.app import Ingestion
from feature_repo.ingestion_service.settings import IngestionSettings
from feature_repo.online.store import client_at
from feature_repo.pseudonyms import Pseudonymiser
from feature_repo.streaming.keys import DEAD_LETTERS, LOG_STREAM, PARTITIONS, partition_stream
from feature_repo.streaming.publisher import Publisher
from feature_repo.streaming.records import read_records
from simulators.local_services import LocalProcess, RedisServer, free_port
from tests.checks.docs_tables import with_tables
from tests.checks.streaming_docs import PAGE, tables

SECRET = "a secret for the tests only"
PSEUDONYMISE = Pseudonymiser.of_secret(SECRET, 3)
IDS = count(1)
Start = Callable[..., tuple[LocalProcess, str]]


def change(**fields: Any) -> dict[str, Any]:
    """A new event of now."""
    event = {"event_id": f"e{next(IDS)}", "event_type": "account_changed", "event_timestamp": time.time_ns() // 1000}
    return {**event, "rider_id": "rider-1", "device_id": "phone-1", "city": "tehran", "change": "email", **fields}


@pytest.fixture(scope="module")
def start(redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """Starts ingestion processes on the session's Redis, and ends them all."""
    folder = tmp_path_factory.mktemp("ingestion")
    with ExitStack() as stack:

        def run(**settings: Any) -> tuple[LocalProcess, str]:
            port = free_port()
            given = {"redis_url": redis_server.url, "key": SECRET, "key_id": 3, "port": port, "drain_s": 0.3}
            env = {f"FRAUD_INGESTION_{name.upper()}": str(value) for name, value in (given | settings).items()}
            command = [sys.executable, "-m", "feature_repo.ingestion_service"]
            process = stack.enter_context(LocalProcess(command, folder / f"{port}.log", env))
            url = f"http://127.0.0.1:{port}"
            process.wait_until(lambda: status_of(f"{url}/readyz") == 200, "ingestion")
            return process, url

        yield run


@pytest.fixture(scope="module")
def services(start: Start) -> list[str]:
    """Two replicas."""
    return [start(redis_timeout_s=0.5, most_in_flight=8)[1] for _ in range(2)]


@pytest.fixture
def store(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url) as client:
        yield client


def status_of(url: str) -> int:
    try:
        return httpx.get(url, timeout=5).status_code
    except httpx.TransportError:
        return 0


def post(url: str, content: object, kind: str = "application/json", **headers: str) -> httpx.Response:
    body = content if isinstance(content, bytes) else orjson.dumps(content)
    return httpx.post(f"{url}/v1/events", content=body, headers={"content-type": kind, **headers}, timeout=30)


def logged(store: redis.Redis) -> dict[str, int]:
    """The number of each event in the log stream, by its id; an event that is there twice fails."""
    found: dict[str, int] = {}
    for _, fields in store.xrange(LOG_STREAM):
        event_id = orjson.loads(fields[b"event"])["event"]["event_id"]
        assert event_id not in found
        found[event_id] = int(fields[b"stream_seq"])
    return found


@pytest.mark.parametrize("form", ["object", "array", "lines"])
def test_an_event_is_numbered_and_stored_under_pseudonyms(services: list[str], store: redis.Redis, form: str) -> None:
    event = change()
    body = {"object": event, "array": [event], "lines": orjson.dumps(event) + b"\n"}[form]
    answer = post(services[0], body, "application/x-ndjson" if form == "lines" else "application/json; charset=utf-8")
    assert answer.status_code == 202
    number = logged(store)[event["event_id"]]
    told = {"event_id": event["event_id"], "outcome": "accepted", "stream_seq": number}
    assert answer.json() == {"accepted": 1, "duplicate": 0, "refused": 0, "events": [told]}
    ((_, fields),) = store.xrange(LOG_STREAM)
    assert orjson.loads(fields[b"event"])["event"]["rider_id"] == PSEUDONYMISE("rider", "rider-1")


def test_every_event_of_a_batch_is_told_what_became_of_it(services: list[str], store: redis.Redis) -> None:
    known = change()
    first = post(services[0], known).json()["events"][0]["stream_seq"]
    bad = [change(change="shoe"), change(phone="0912 345 67 89"), change(schema_version="v9"), "no event"]
    fresh = [change(), change()]
    answer = post(services[1], [bad[0], fresh[0], known, bad[1], fresh[0], bad[2], bad[3], fresh[1]])
    assert answer.status_code == 202
    told = answer.json()
    assert {name: told[name] for name in ("accepted", "duplicate", "refused")} == {
        "accepted": 2,
        "duplicate": 2,
        "refused": 4,
    }
    outcomes = [event["outcome"] for event in told["events"]]
    assert outcomes == ["refused", "accepted", "duplicate", "refused", "duplicate", "refused", "refused", "accepted"]
    numbers = [event.get("stream_seq") for event in told["events"]]
    assert numbers == [None, first + 1, first, None, first + 1, None, None, first + 2]
    fields = [[reason["field"] for reason in event.get("reasons", [])] for event in told["events"]]
    assert fields == [["change"], [], [], ["phone"], [], ["schema_version"], ["event"], []]
    assert set(logged(store)) == {known["event_id"], fresh[0]["event_id"], fresh[1]["event_id"]}
    letters = [fields[b"letter"] for _, fields in store.xrange(DEAD_LETTERS)]
    assert len(letters) == 4
    assert not any(raw in letter for raw in (b"0912", b"rider-1", b"phone-1") for letter in letters)


def test_a_line_that_is_not_json_costs_no_other_its_place(services: list[str], store: redis.Redis) -> None:
    lines = [orjson.dumps(change()), b"{half", b"", orjson.dumps(change())]
    told = post(services[0], b"\r\n".join(lines), "application/x-ndjson").json()
    assert [event["outcome"] for event in told["events"]] == ["accepted", "refused", "accepted"]
    assert store.xlen(DEAD_LETTERS) == 1


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"", {}, 400),
        (b"[" * 100_000, {}, 400),
        (b'{"event_id": NaN}', {}, 400),
        (b"\xff\xfe", {}, 400),
        (b"{}", {"content-type": "text/plain"}, 415),
        (b"{}", {"content-encoding": "gzip"}, 415),
        (b"[" + b"1," * 1000 + b"1]", {}, 413),
        (b'{"event_id": "' + b"x" * (1 << 20) + b'"}', {}, 413),
        (b"[]", {}, 202),
        (b"null", {}, 202),
        (b'[{"amount": 1e999}]', {}, 400),
        (b'[{"event_id": "e", "amount": 1e40, "fare": 123456789012345678901234567890}]', {}, 202),
        (b'{"event_id": ' + b"[" * 1000 + b"]" * 1000 + b"}", {}, 202),
        (b'[{"event_id": {"a": [1]}, "event_type": [], "amount": true, "' + b"n" * 10_000 + b'": 1}]', {}, 202),
    ],
)
def test_a_hostile_body_is_answered_and_stores_no_event(
    services: list[str], store: redis.Redis, body: bytes, headers: dict[str, str], status: int
) -> None:
    answer = post(services[0], body, **{"kind": "application/json"} | headers_of(headers))
    assert answer.status_code == status
    assert ("error" in answer.json()) == (status != 202)
    assert logged(store) == {}
    assert store.xlen(DEAD_LETTERS) == (status == 202 and body != b"[]")
    assert post(services[0], change()).json()["accepted"] == 1


def headers_of(given: dict[str, str]) -> dict[str, str]:
    return {"kind" if name == "content-type" else name: value for name, value in given.items()}


async def test_two_processes_at_once_number_every_event_once_and_in_order(
    services: list[str], store: redis.Redis
) -> None:
    """Each stream ascends, whichever process put an entry there: the worker takes a lower number for a repeat."""
    batches = [[change(rider_id=f"rider-{n % 7}") for n in range(20)] for _ in range(20)]
    async with httpx.AsyncClient(timeout=30) as http:

        async def send(n: int) -> list[int]:
            answer = await http.post(f"{services[n % 2]}/v1/events", json=batches[n])
            while answer.status_code == 503:
                answer = await http.post(f"{services[n % 2]}/v1/events", json=batches[n])
            return [event["stream_seq"] for event in answer.json()["events"]]

        numbers = [number for told in await asyncio.gather(*map(send, range(20))) for number in told]
    assert sorted(numbers) == sorted(logged(store).values()) == list(range(min(numbers), min(numbers) + 400))
    for stream in map(partition_stream, range(PARTITIONS)):
        entries = [read_records([fields[b"record"]])[0]["stream_seq"][0] for _, fields in store.xrange(stream)]
        assert entries == sorted(entries)
    log = [int(fields[b"stream_seq"]) for _, fields in store.xrange(LOG_STREAM)]
    assert log == sorted(log)


async def test_a_redis_that_hangs_is_answered_503_and_loses_nothing(
    services: list[str], store: redis.Redis, redis_server: RedisServer
) -> None:
    batches = [[change() for _ in range(150)] for _ in range(12)]
    async with httpx.AsyncClient(timeout=30) as http:

        async def send(batch: list[dict[str, Any]]) -> httpx.Response:
            return await http.post(f"{services[0]}/v1/events", json=batch)

        post(services[0], change())
        os.kill(redis_server.pid, signal.SIGSTOP)
        try:
            answers = await asyncio.gather(*map(send, batches))
            assert status_of(f"{services[0]}/healthz") == 200
            assert status_of(f"{services[0]}/readyz") == 200
        finally:
            os.kill(redis_server.pid, signal.SIGCONT)
        assert {answer.status_code for answer in answers} == {503}
        assert {answer.headers["retry-after"] for answer in answers} == {"1"}
        # More than wait for Redis at a time are sent away at once.
        assert len({answer.json()["error"] for answer in answers}) == 2
        for batch in batches:
            answer = await send(batch)
            assert answer.status_code == 202
            told = {event["event_id"]: event["stream_seq"] for event in answer.json()["events"]}
            assert told.keys() == {event["event_id"] for event in batch}
            assert told.items() <= logged(store).items()
    assert len(logged(store)) == 12 * 150 + 1


async def test_a_refused_event_is_not_acknowledged_while_its_letter_cannot_be_kept(
    services: list[str], store: redis.Redis, redis_server: RedisServer
) -> None:
    os.kill(redis_server.pid, signal.SIGSTOP)
    try:
        assert post(services[0], change(change="shoe")).status_code == 503
    finally:
        os.kill(redis_server.pid, signal.SIGCONT)


async def test_a_bad_event_is_sent_back_while_the_dead_letters_are_full(redis_url: str, store: redis.Redis) -> None:
    client = client_at(redis_url, "redis")
    transport = httpx.ASGITransport(Ingestion(client, IngestionSettings(key=SECRET, most_dead_letters=1)).app())
    async with httpx.AsyncClient(transport=transport, base_url="http://ingestion") as http:
        assert (await http.post("/v1/events", json=change(change="shoe"))).status_code == 202
        both = [change(), change(change="hat")]
        answer = await http.post("/v1/events", json=both)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "60")
        assert "1 refused events wait" in answer.json()["error"]
        assert store.xlen(DEAD_LETTERS) == 1
        assert (await http.post("/v1/events", json=change())).json()["accepted"] == 1
        store.delete(DEAD_LETTERS)
        told = (await http.post("/v1/events", json=both)).json()["events"]
        assert [event["outcome"] for event in told] == ["duplicate", "refused"]
    await client.aclose()


async def test_nothing_is_lost_when_a_process_is_told_to_stop(start: Start, store: redis.Redis) -> None:
    """Producers behind a load balancer: they stop when the process says that it is not ready."""
    process, url = start()
    acknowledged: dict[str, int] = {}
    ready = True
    async with httpx.AsyncClient(timeout=30) as http:

        async def produce() -> None:
            while ready:
                answer = await http.post(f"{url}/v1/events", json=[change() for _ in range(10)])
                assert answer.status_code == 202
                acknowledged.update({event["event_id"]: event["stream_seq"] for event in answer.json()["events"]})

        async def stop() -> None:
            nonlocal ready
            await asyncio.sleep(0.3)
            os.kill(process.pid, signal.SIGTERM)
            while ready:
                ready = (await http.get(f"{url}/readyz")).status_code == 200
            assert (await http.get(f"{url}/healthz")).status_code == 200

        await asyncio.gather(*(produce() for _ in range(4)), stop())
    deadline = time.monotonic() + 30
    while process.alive() and time.monotonic() < deadline:
        await asyncio.sleep(0.02)
    assert not process.alive()
    assert len(acknowledged) > 40
    assert acknowledged.items() <= logged(store).items()
    assert "Traceback" not in process.log.read_text()


@pytest.fixture
async def guarded(redis_url: str, tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    """Ingestion, in this process, that asks for tokens."""
    (tmp_path / "tokens").write_text("t" * 32)
    settings = IngestionSettings(key=SECRET, token_file=tmp_path / "tokens")
    client = client_at(redis_url, "redis")
    transport = httpx.ASGITransport(Ingestion(client, settings).app())
    async with httpx.AsyncClient(transport=transport, base_url="http://ingestion") as http:
        yield http
    await client.aclose()


async def test_a_producer_needs_a_token_where_there_are_some(guarded: httpx.AsyncClient, store: redis.Redis) -> None:
    without = await guarded.post("/v1/events", json=change())
    assert (without.status_code, without.headers["www-authenticate"]) == (401, "Bearer")
    wrong = await guarded.post("/v1/events", json=change(), headers={"authorization": "Bearer " + "x" * 32})
    assert (wrong.status_code, wrong.headers["www-authenticate"]) == (401, 'Bearer error="invalid_token"')
    assert logged(store) == {}
    right = await guarded.post("/v1/events", json=change(), headers={"authorization": "Bearer " + "t" * 32})
    assert right.status_code == 202
    for path in ("healthz", "readyz", "metrics"):
        assert (await guarded.get(f"/{path}")).status_code == 200


async def test_requests_and_events_are_counted_and_no_name_of_a_producer_s_is_a_label(
    guarded: httpx.AsyncClient,
) -> None:
    header = {"authorization": "Bearer " + "t" * 32}
    assert (await guarded.post("/v1/events", json=change(anything="1"), headers=header)).status_code == 202
    assert (await guarded.post("/v1/events", content=b"?", headers=header)).status_code == 415
    text = (await guarded.get("/metrics")).text
    assert 'fraud_ingestion_requests_total{status="202"}' in text
    assert 'fraud_ingestion_requests_total{status="415"}' in text
    assert 'fraud_ingestion_refused_fields_total{field="unknown"}' in text
    assert "anything" not in text


async def test_a_request_that_ends_in_an_error_of_ours_is_counted(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object) -> None:
        raise ZeroDivisionError

    client = client_at(redis_url, "redis")
    monkeypatch.setattr(Publisher, "publish_rows", fail)
    transport = httpx.ASGITransport(Ingestion(client, IngestionSettings(key=SECRET)).app(), raise_app_exceptions=False)
    before = REGISTRY.get_sample_value("fraud_ingestion_requests_total", {"status": "500"}) or 0.0
    async with httpx.AsyncClient(transport=transport, base_url="http://ingestion") as http:
        assert (await http.post("/v1/events", json=change())).status_code == 500
    assert REGISTRY.get_sample_value("fraud_ingestion_requests_total", {"status": "500"}) == before + 1
    await client.aclose()


async def test_it_is_not_ready_before_redis_has_answered() -> None:
    client = client_at(f"redis://127.0.0.1:{free_port()}", "redis")
    settings = IngestionSettings(key=SECRET, redis_timeout_s=0.5)
    transport = httpx.ASGITransport(Ingestion(client, settings).app())
    async with httpx.AsyncClient(transport=transport, base_url="http://ingestion") as http:
        assert (await http.get("/readyz")).status_code == 503
        assert (await http.get("/healthz")).status_code == 200
        answer = await http.post("/v1/events", json=change())
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    await client.aclose()


def test_the_example_of_the_docs_is_answered_as_they_say(services: list[str], store: redis.Redis) -> None:
    if shutil.which("curl") is None:
        pytest.skip("there is no curl to run the example of docs/streaming.md with")
    example, promised = re.findall(r"```(?:sh|json)\n(.+?)```", PAGE.read_text("utf-8"), re.DOTALL)[:2]
    command = example.replace("http://127.0.0.1:8080", services[0])
    assert command != example
    said = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True).stdout
    wanted = orjson.loads(promised)
    wanted["events"][0]["stream_seq"] = logged(store)["e-1"]
    assert orjson.loads(said) == wanted


def test_the_table_of_the_settings_is_that_of_the_code() -> None:
    text = PAGE.read_text("utf-8")
    assert text == with_tables(text, tables()), "run `python -m tests.checks.streaming_docs`"
    assert "`FRAUD_INGESTION_KEY_ID`" in text
