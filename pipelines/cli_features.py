"""`fraud features`: the feature store and the streams that feed it."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from pipelines.terminal import DEFAULT_HOME, DEFAULT_REDIS_URL, Home, RedisUrl, bars, console
from pipelines.workspace import Workspace

features_app = typer.Typer(no_args_is_help=True, help="The feature store.")

_ROWS_AT_ONCE = 1000


@features_app.command("apply")
def features_apply(home: Home = DEFAULT_HOME, redis_url: RedisUrl = DEFAULT_REDIS_URL) -> None:
    """Register entities, views and services with Feast."""
    from feast import FeatureStore

    from feature_repo.definitions import definitions

    settings = Workspace(home).features(redis_url)
    settings.registry.parent.mkdir(parents=True, exist_ok=True)
    objects = definitions(settings.offline)
    FeatureStore(config=settings.repo_config()).apply(objects)
    console.print(f"{len(objects)} definitions in {settings.registry}")


@features_app.command("rebuild")
def features_rebuild(redis_url: Annotated[str, typer.Option(help="Redis address.")], home: Home = DEFAULT_HOME) -> None:
    """Restore an empty Redis from the event log: the tiles and neighbours of every entity."""
    import redis

    from feature_repo.settings import FEAST_PROJECT
    from feature_repo.streaming.rebuild import rebuild

    with redis.Redis.from_url(redis_url) as client, bars.shown():
        last = rebuild(Workspace(home).event_log, client, FEAST_PROJECT, bars.bar("tiles and neighbours"))
    console.print(f"restored up to event {last:,}")


@features_app.command("publish")
def features_publish(
    events: Annotated[Path, typer.Argument(help="JSON lines, one raw event each.")],
    home: Home = DEFAULT_HOME,
    redis_url: RedisUrl = DEFAULT_REDIS_URL,
) -> None:
    """Hand events to live ingestion, as a producer does; what is refused is kept among the dead letters."""
    import orjson
    import redis.asyncio as aioredis

    from feature_repo.streaming.publisher import Publisher
    from pipelines.errors import StepError

    try:
        rows = [orjson.loads(line) for line in events.read_bytes().splitlines() if line.strip()]
    except FileNotFoundError:
        raise StepError(f"no file {events}: give a file of JSON lines") from None
    except orjson.JSONDecodeError as error:
        raise StepError(f"{events} is not JSON lines: {error}") from None

    async def publish() -> list[str]:
        refused = []
        async with aioredis.Redis.from_url(redis_url) as client:
            publisher = Publisher(client, Workspace(home).pseudonymiser())
            for start in range(0, len(rows), _ROWS_AT_ONCE):
                part = rows[start : start + _ROWS_AT_ONCE]
                published = await publisher.publish_rows(part, time.time_ns() // 1000)
                refused += [f"line {start + e.row + 1}: {e.field} {e.reason}" for e in published.refused]
        return refused

    refused = asyncio.run(publish())
    for line in refused:
        console.print(line, markup=False)
    lines = {line.partition(":")[0] for line in refused}
    console.print(f"{len(rows) - len(lines):,} events taken, {len(lines):,} refused")


@features_app.command("dead-letters")
def features_dead_letters(
    ids: Annotated[list[str] | None, typer.Argument(help="Only these letters, by id.")] = None,
    replay: Annotated[bool, typer.Option("--replay", help="Use them once more, now that the cause is mended.")] = False,
    discard: Annotated[bool, typer.Option("--discard", help="Forget them for good.")] = False,
    home: Home = DEFAULT_HOME,
    redis_url: RedisUrl = DEFAULT_REDIS_URL,
) -> None:
    """List what ingestion refused and what the worker could not use, replay it, or discard it."""
    import redis.asyncio as aioredis

    from feature_repo.streaming.letter_box import discard_letters, read_letters, replay_letters
    from feature_repo.streaming.publisher import Publisher
    from pipelines.errors import StepError

    if replay and discard:
        raise StepError("--replay or --discard, not both")

    async def run() -> None:
        async with aioredis.Redis.from_url(redis_url) as client:
            letters = await read_letters(client)
            if ids:
                unknown = set(ids) - {letter.entry_id for letter in letters}
                if unknown:
                    raise StepError(
                        f"no dead letter {sorted(unknown)[0]}: list them with `fraud features dead-letters`"
                    )
                letters = [letter for letter in letters if letter.entry_id in ids]
            if discard:
                console.print(f"{await discard_letters(client, letters):,} discarded")
                return
            if not replay:
                table = Table("letter", "since (UTC)", "what", "why")
                for letter in letters:
                    since = datetime.fromtimestamp(letter.arrived_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
                    table.add_row(letter.entry_id, since, letter.subject(), "; ".join(letter.reasons))
                console.print(table)
                return
            publisher = Publisher(client, Workspace(home).pseudonymiser())
            done = await replay_letters(client, publisher, letters, time.time_ns() // 1000)
            for entry_id, why in done.refused.items():
                console.print(f"{entry_id} stays: {why}", markup=False)
            console.print(f"{done.taken:,} replayed, {len(done.refused):,} stay")

    asyncio.run(run())
