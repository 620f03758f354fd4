"""Lists dead letters, replays them once what kept them from being used is mended, and discards them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from feature_repo.errors import CorruptValue
from feature_repo.streaming.keys import DEAD_LETTERS, PARTITIONS, partition_stream
from feature_repo.streaming.publisher import Publisher
from feature_repo.streaming.records import KIND_NAMES, partition_of, read_records

# Redis serves nobody else meanwhile.
_DISCARDED_AT_ONCE = 1000


@dataclass(frozen=True)
class DeadLetter:
    """One entry of the dead-letter stream.

    Attributes:
        entry_id: its id, which begins with the milliseconds at which it became a dead letter.
        content: `event`, `record` or `entry` (see dead_letters.py), and `reasons`.
    """

    entry_id: str
    content: dict[str, Any]

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why it was not used."""
        return tuple(self.content["reasons"])

    @property
    def arrived_ms(self) -> int:
        """When it became a dead letter, milliseconds since the epoch."""
        return int(self.entry_id.partition("-")[0])

    def subject(self) -> str:
        """What it is, in a few words."""
        if "event" in self.content:
            event = self.content["event"]
            return f"{event.get('event_type', 'event')} {event.get('event_id', 'without an id')}"
        if "record" in self.content:
            records, _ = read_records([bytes.fromhex(self.content["record"])])
            if len(records):
                return f"record {records['stream_seq'][0]} of a {KIND_NAMES[records['kind'][0]]}"
        return "unreadable stream entry"


@dataclass(frozen=True)
class Replayed:
    """What became of replayed letters; those that were taken have left the stream.

    Attributes:
        taken: how many were taken.
        refused: why each of the others was not, by entry id.
    """

    taken: int
    refused: dict[str, str]


async def read_letters(redis: Any, limit: int | None = None) -> list[DeadLetter]:
    """The dead letters, oldest first.

    Raises:
        CorruptValue: an entry of the stream is no dead letter.
    """
    found = []
    for entry_id, fields in await redis.xrange(DEAD_LETTERS, count=limit):
        try:
            content = orjson.loads(fields[b"letter"])
            content["reasons"]
        except (LookupError, TypeError, orjson.JSONDecodeError) as error:
            raise CorruptValue(f"entry {entry_id.decode()} of {DEAD_LETTERS} is no dead letter") from error
        found.append(DeadLetter(entry_id.decode(), content))
    return found


async def replay_letters(redis: Any, publisher: Publisher, letters: Sequence[DeadLetter], now_us: int) -> Replayed:
    """Hands letters to ingestion, or to the partition that owns the entity, once more, in order.

    A letter leaves the stream after it was taken: a crash in between repeats it, and repeats are skipped.

    Args:
        redis: an asynchronous client.
        publisher: ingestion.
        letters: what to replay.
        now_us: the arrival of replayed events, microseconds.
    """
    taken, refused = 0, dict[str, str]()
    for letter in letters:
        problem = await _replay_one(redis, publisher, letter, now_us)
        if problem is None:
            await redis.xdel(DEAD_LETTERS, letter.entry_id)
            taken += 1
        else:
            refused[letter.entry_id] = problem
    return Replayed(taken, refused)


async def discard_letters(redis: Any, letters: Sequence[DeadLetter]) -> int:
    """Forgets letters that can never be used; returns how many were still there."""
    gone = 0
    for start in range(0, len(letters), _DISCARDED_AT_ONCE):
        ids = [letter.entry_id for letter in letters[start : start + _DISCARDED_AT_ONCE]]
        gone += await redis.xdel(DEAD_LETTERS, *ids)
    return gone


async def _replay_one(redis: Any, publisher: Publisher, letter: DeadLetter, now_us: int) -> str | None:
    """Why a letter was not taken; None when it was."""
    if "event" in letter.content:
        # Of the raw id only its pseudonym is left, so whether it is well-formed by now cannot be told.
        about_ids = [reason for reason in letter.reasons if reason.partition(" ")[0].endswith("_id")]
        if about_ids:
            return f"{about_ids[0]}: only its producer can send it again"
        errors = await publisher.republish(letter.content["event"], now_us)
        return "; ".join(f"{e.field} {e.reason}" for e in errors) or None
    if "record" in letter.content:
        body = bytes.fromhex(letter.content["record"])
        records, _ = read_records([body])
        if len(records):
            await redis.xadd(partition_stream(int(partition_of(records, PARTITIONS)[0])), {"record": body})
            return None
    return "nothing of ours wrote it"
