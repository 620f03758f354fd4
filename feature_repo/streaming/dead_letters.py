"""Dead letters: what could not be used, kept with the reason until somebody deals with it.

| letter | from | what it is |
|---|---|---|
| `event` | ingestion | an event that breaks its schema or comes by a wrong clock, under pseudonyms |
| `record` | worker | a record, in hexadecimal, of an entity whose stored state cannot be read |
| `entry` | worker | a stream entry that is no record or no event |

None is ever dropped to make room for another. While there are `MOST_LETTERS`, ingestion takes no bad event off its
producer's hands. What the worker cannot use was acknowledged long ago, and is kept whatever there is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from feature_repo.streaming.keys import DEAD_LETTERS

MOST_LETTERS = 100_000
# Longer than any text that a field may hold, so that one that is cut is refused by replay too.
LONGEST_TEXT = 200


async def bury(redis: Any, letters: Sequence[bytes]) -> None:
    """Puts letters on the dead-letter stream, in order and in one round trip; `redis` is an asynchronous client."""
    if letters:
        pipeline = redis.pipeline(transaction=False)
        for letter in letters:
            pipeline.xadd(DEAD_LETTERS, {"letter": letter})
        await pipeline.execute()


def event_letter(event: Mapping[str, object], reasons: Sequence[str]) -> bytes:
    """The letter of an event that ingestion refused, long texts cut; its ids must be pseudonyms."""
    kept = {name: value[:LONGEST_TEXT] if isinstance(value, str) else value for name, value in event.items()}
    return orjson.dumps({"event": kept, "reasons": reasons})


def record_letter(record: bytes, reason: str) -> bytes:
    """The letter of a record that the worker could not apply."""
    return orjson.dumps({"record": record.hex(), "reasons": [reason]})


def entry_letter(entry: Mapping[bytes, bytes], reason: str) -> bytes:
    """The letter of a stream entry that the worker could not read."""
    given = {name.decode(errors="replace"): value.decode(errors="replace") for name, value in entry.items()}
    return orjson.dumps({"entry": given, "reasons": [reason]})
