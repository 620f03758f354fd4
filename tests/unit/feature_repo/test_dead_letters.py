"""What cannot be used is kept with the reason, costs nobody else anything, and can be replayed once it is mended."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio as aioredis
from prometheus_client import REGISTRY

from feature_repo.errors import DeadLettersFull
from feature_repo.event_schemas import CATALOGUE
from feature_repo.pseudonyms import Pseudonymiser
from feature_repo.streaming.dead_letters import LONGEST_TEXT
from feature_repo.streaming.fold import state_fields, state_key
from feature_repo.streaming.keys import DEAD_LETTERS
from feature_repo.streaming.letter_box import discard_letters, read_letters, replay_letters
from feature_repo.streaming.publisher import Publisher
from feature_repo.streaming.worker import Worker
from tests.conftest import ROOT
from tests.unit.feature_repo.streams import drain

NOW_US = 1_770_000_000_000_000
HOUR_US = 3_600_000_000


def change(number: int, **fields: Any) -> dict[str, Any]:
    event = {"event_id": f"e{number}", "event_type": "account_changed", "event_timestamp": NOW_US + number}
    return {**event, "rider_id": "anna", "device_id": "phone", "city": "tehran", "change": "email", **fields}


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[aioredis.Redis]:
    connected = aioredis.Redis.from_url(redis_url)
    yield connected
    await connected.aclose()


def count(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


BAD: dict[str, tuple[Any, str, str]] = {
    "a schema version that nobody knows": (change(2, schema_version="v9"), "schema_version", "'v9' is not known"),
    "a field that nobody knows": (change(2, shoe_size=44), "shoe_size", "is not a field"),
    "a wrong type": (change(2, event_timestamp="today"), "event_timestamp", "must be a JSON integer"),
    "an id that is a number": (change(2, rider_id=9123456789), "rider_id", "must be a JSON string"),
    "no object": (["event"], "event", "is not a JSON object"),
    "a word that is none of the enumeration": (change(2, change="shoe"), "change", "must be one of"),
    "a clock an hour ahead": (change(2, event_timestamp=NOW_US + HOUR_US), "event_timestamp", "+3600 s from it"),
}


@pytest.mark.parametrize("name", BAD)
async def test_a_bad_event_is_kept_with_its_reason_and_costs_no_other_its_place(
    client: aioredis.Redis, pseudonymiser: Pseudonymiser, name: str
) -> None:
    bad, field, reason = BAD[name]
    before = {o: count("fraud_ingestion_events_total", outcome=o) for o in ("accepted", "repeated", "refused")}
    # A label holds no name that a producer makes up.
    label = "unknown" if field == "shoe_size" else field
    faults = count("fraud_ingestion_refused_fields_total", field=label)
    rows = [change(1, schema_version="v1"), bad, change(3), change(1)]
    (error,) = (await Publisher(client, pseudonymiser).publish_rows(rows, NOW_US)).refused
    assert (error.row, error.field) == (1, field)
    assert reason in error.reason
    (letter,) = await read_letters(client)
    assert reason in letter.reasons[0]
    stored = (await client.xrange(DEAD_LETTERS))[0][1][b"letter"]
    assert b"anna" not in stored
    assert b"9123456789" not in stored
    added = {o: count("fraud_ingestion_events_total", outcome=o) - n for o, n in before.items()}
    assert added == {"accepted": 2, "repeated": 1, "refused": 1}
    assert count("fraud_ingestion_refused_fields_total", field=label) == faults + 1


async def test_a_full_dead_letter_stream_drops_nothing_and_takes_good_events_on(
    client: aioredis.Redis, pseudonymiser: Pseudonymiser
) -> None:
    publisher = Publisher(client, pseudonymiser, most_letters=2)
    full = count("fraud_ingestion_dead_letters_full_total")
    await publisher.publish_rows([change(1, change="shoe"), change(2, change="hat")], NOW_US)
    kept = await read_letters(client)
    with pytest.raises(DeadLettersFull, match="2 refused events wait"):
        await publisher.publish_rows([change(3), change(4, change="coat")], NOW_US)
    assert await read_letters(client) == kept
    assert count("fraud_ingestion_dead_letters_full_total") == full + 1
    assert await publisher.any_taken(["e3"])
    assert (await publisher.publish_rows([change(5)], NOW_US)).refused == []
    assert await discard_letters(client, kept[:1]) == 1
    published = await publisher.publish_rows([change(3), change(4, change="coat")], NOW_US)
    assert published.repeated.tolist() == [True, False]
    assert [letter.subject().split()[-1] for letter in await read_letters(client)] == ["e2", "e4"]


async def test_a_letter_is_short_and_what_is_cut_in_it_is_refused_again(
    client: aioredis.Redis, pseudonymiser: Pseudonymiser
) -> None:
    longest = [max([spec.max_length or 0, *map(len, spec.enum or ())]) for spec in CATALOGUE.fields.values()]
    assert max(longest) < LONGEST_TEXT
    publisher = Publisher(client, pseudonymiser)
    await publisher.publish_rows([change(1, event_id="e" * 1_000_000)], NOW_US)
    ((_, fields),) = await client.xrange(DEAD_LETTERS)
    assert len(fields[b"letter"]) < 1000
    (letter,) = await read_letters(client)
    assert (await replay_letters(client, publisher, [letter], NOW_US)).taken == 0


async def test_an_event_of_a_fast_clock_is_taken_once_its_time_has_come(
    client: aioredis.Redis, pseudonymiser: Pseudonymiser
) -> None:
    publisher = Publisher(client, pseudonymiser)
    await publisher.publish_rows([change(1, event_timestamp=NOW_US + HOUR_US)], NOW_US)
    letters = await read_letters(client)
    early = await replay_letters(client, publisher, letters, NOW_US + HOUR_US // 2)
    assert early.taken == 0
    assert "5 minutes after" in early.refused[letters[0].entry_id]
    assert len(await read_letters(client)) == 1
    assert (await replay_letters(client, publisher, letters, NOW_US + HOUR_US)).taken == 1
    assert await read_letters(client) == []
    await drain(client)
    assert await client.exists(state_key("fraud", "rider", (pseudonymiser("rider", "anna"),)))


async def test_an_event_with_a_bad_id_must_come_from_its_producer_again(
    client: aioredis.Redis, pseudonymiser: Pseudonymiser
) -> None:
    publisher = Publisher(client, pseudonymiser)
    await publisher.publish_rows([change(1, rider_id="0912 345")], NOW_US)
    letters = await read_letters(client)
    done = await replay_letters(client, publisher, letters, NOW_US)
    assert "only its producer" in done.refused[letters[0].entry_id]


async def test_records_of_a_damaged_entity_are_applied_once_it_is_mended(
    client: aioredis.Redis, pseudonymiser: Pseudonymiser
) -> None:
    publisher = Publisher(client, pseudonymiser)
    key = state_key("fraud", "rider", (pseudonymiser("rider", "anna"),))
    rows = [change(n) for n in range(1, 5)]
    await publisher.publish_rows(rows, NOW_US)
    await drain(client)
    sound = await client.hgetall(key)
    await client.flushall()
    await client.hset(key, mapping={state_fields("rider")[0]: b"0", state_fields("rider")[1]: b"\x0a\xff"})
    worker = Worker(client, None)
    dead = count("fraud_worker_dead_letters_total")
    await publisher.publish_rows(rows, NOW_US)
    await worker.drain()
    assert count("fraud_worker_dead_letters_total") == dead + 4
    letters = await read_letters(client)
    assert [letter.subject().split()[-1] for letter in letters] == ["rider"] * 4
    await client.delete(key)
    assert (await replay_letters(client, publisher, letters, NOW_US)).taken == 4
    await worker.drain()
    await worker.close()
    mended = await client.hgetall(key)
    sequence = state_fields("rider")[0]
    assert {k: v for k, v in mended.items() if k != sequence} == {k: v for k, v in sound.items() if k != sequence}


def test_the_command_line_publishes_lists_and_replays(redis_url: str, tmp_path: Path) -> None:
    lines = [change(1), change(2, change="shoe"), change(3)]
    # Events of this moment: the command line asks the clock.
    for line in lines:
        line["event_timestamp"] = time.time_ns() // 1000
    (tmp_path / "events.jsonl").write_text("\n".join(map(json.dumps, lines)))
    options = ["--home", tmp_path / "home", "--redis-url", redis_url]
    done = fraud("publish", tmp_path / "events.jsonl", *options)
    assert "line 2: change must be one of" in done.stdout
    assert "2 events taken, 1 refused" in done.stdout
    done = fraud("dead-letters", *options)
    assert "account_changed e2" in done.stdout
    done = fraud("dead-letters", "--replay", *options)
    assert "0 replayed, 1 stay" in done.stdout
    done = fraud("dead-letters", "--discard", *options)
    assert "1 discarded" in done.stdout
    done = fraud("dead-letters", "7-7", *options)
    assert done.returncode == 1
    assert "no dead letter 7-7" in done.stderr


def fraud(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pipelines.cli", "features", *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200"}
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, cwd=ROOT, env=environment)


async def test_lag_and_checkpoint_age_are_measured(client: aioredis.Redis, pseudonymiser: Pseudonymiser) -> None:
    await Publisher(client, pseudonymiser).publish_rows([change(n) for n in range(5)], NOW_US)
    await asyncio.sleep(0.2)
    worker = Worker(client, None)
    applied = [p for p in range(4) if await worker._apply_next(p, block_ms=None)]
    lags = [count("fraud_feature_lag_seconds", partition=str(p)) for p in applied]
    assert lags
    assert all(0.2 <= lag < 60 for lag in lags)
    await worker.drain()
    assert count("fraud_feature_lag_seconds", partition="0") == 0
    await worker.close()
    await asyncio.sleep(0.1)
    assert 0.1 <= count("fraud_worker_checkpoint_age_seconds", partition="0") < 60
