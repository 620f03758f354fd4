"""Live ingestion: numbers events and puts one record per entity on the partition that owns the entity."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray
from prometheus_client import Counter
from redis.exceptions import RedisError

from feature_repo.errors import DeadLettersFull, StoreUnavailable
from feature_repo.event_batch import EventBatch
from feature_repo.event_schemas import CATALOGUE
from feature_repo.event_schemas.validation import FieldError
from feature_repo.ingestion import (
    VERSION_FIELD,
    WHOLE_EVENT,
    Screened,
    dead_letters,
    read_rows,
    screen,
    screen_pseudonymised,
)
from feature_repo.pseudonyms import Pseudonymiser
from feature_repo.streaming.dead_letters import MOST_LETTERS, bury
from feature_repo.streaming.keys import (
    DEAD_LETTERS,
    LOG_STREAM,
    PARTITION_PREFIX,
    PARTITIONS,
    SEEN_PREFIX,
    SEQUENCE_KEY,
)
from feature_repo.streaming.records import BODY_AT, RECORD, fan_out

# A producer repeats what it was not answered for within hours; the event log drops later repeats.
_SEEN_S = 3 * 86_400
# Redis serves nobody else while a script runs: a hundred events take it a few milliseconds.
_EVENTS_PER_CALL = 100

EVENTS = Counter("fraud_ingestion_events", "Events by what became of them: accepted, repeated, refused.", ["outcome"])
REFUSED = Counter("fraud_ingestion_refused_fields", "Reasons for refusals by the field at fault.", ["field"])
FULL = Counter(
    "fraud_ingestion_dead_letters_full", "Batches whose refused events could not be kept: too many dead letters are."
)

# Numbering and writing are one step, so that the numbers of every stream ascend whoever publishes at the same time:
# the worker takes a lower number after a higher one for a repeat. Numbers begin at the clock's microseconds, so that
# they go on ascending should Redis lose the last one. KEYS: sequence, log stream, partition prefix, seen prefix. ARGV:
# seconds an id is remembered, then per event its id, its body, and how many (partition, record) pairs follow. Returns
# per event its number, or the number that it had before, negative.
_PUBLISH = """
local i, numbers = 2, {}
while i <= #ARGV do
  local last = i + 2 + 2 * tonumber(ARGV[i + 2])
  local before = redis.call('GET', KEYS[4] .. ARGV[i])
  if before then
    numbers[#numbers + 1] = -tonumber(before)
  else
    if redis.call('EXISTS', KEYS[1]) == 0 then
      local now = redis.call('TIME')
      redis.call('SET', KEYS[1], string.format('%d%06d', now[1], now[2]))
    end
    redis.call('INCR', KEYS[1])
    local number = redis.call('GET', KEYS[1])
    redis.call('SET', KEYS[4] .. ARGV[i], number, 'EX', ARGV[1])
    redis.call('XADD', KEYS[2], '*', 'event', ARGV[i + 1], 'stream_seq', number)
    local packed = struct.pack('<I4I4', number % 4294967296, math.floor(number / 4294967296))
    for j = i + 3, last, 2 do
      redis.call('XADD', KEYS[3] .. ARGV[j], '*', 'record', packed .. ARGV[j + 1])
    end
    numbers[#numbers + 1] = tonumber(number)
  end
  i = last + 1
end
return numbers
"""


@dataclass(frozen=True)
class Published:
    """What became of n events.

    Attributes:
        refused: why events were refused, by row; empty when all were taken.
        stream_seq: the number of each event, shape [n]; 0 of those refused.
        repeated: which of them were taken before, shape [n].
    """

    refused: list[FieldError]
    stream_seq: NDArray[np.int64]
    repeated: NDArray[np.bool_]

    @classmethod
    def of(cls, n: int, kept: NDArray[np.int64], numbers: NDArray[np.int64], refused: list[FieldError]) -> Published:
        """Of n events, those at `kept` were taken, with the numbers that the publishing script returned."""
        signed = np.zeros(n, np.int64)
        signed[kept] = numbers
        return cls(sorted(refused, key=lambda e: (e.row, e.field)), np.abs(signed), signed < 0)


class Publisher:
    """Takes raw events from producers.

    Args:
        redis: an asynchronous Redis client.
        pseudonymise: the key for ids.
        most_letters: how many dead letters there may be before no more events are refused, but sent back.
    """

    def __init__(self, redis: Any, pseudonymise: Pseudonymiser, most_letters: int = MOST_LETTERS) -> None:
        self._redis = redis
        self._pseudonymise = pseudonymise
        self._most_letters = most_letters
        self._script = redis.register_script(_PUBLISH)

    async def publish_rows(self, rows: Sequence[dict[str, Any]], arrived_us: int) -> Published:
        """Takes n events as JSON-like records; as `publish`, and what is no event at all is refused by its row.

        Args:
            rows: raw events; each may name its `schema_version`.
            arrived_us: their arrival, microseconds.
        """
        read = read_rows(rows, self._pseudonymise)
        screened = screen(read.batch, self._pseudonymise, np.full(len(read.batch), arrived_us))
        numbers = await self._take(screened, np.full(len(screened.kept), arrived_us))
        refused = [FieldError(int(read.kept[e.row]), e.field, e.reason) for e in screened.refused]
        letters = [*read.letters, *dead_letters(read.batch, screened.refused, self._pseudonymise)]
        await self._bury(letters, [*read.refused, *refused])
        return Published.of(len(rows), read.kept[screened.kept], numbers, [*read.refused, *refused])

    async def publish(self, batch: EventBatch, arrived_us: NDArray[np.int64]) -> Published:
        """Validates, pseudonymises, numbers and fans out n events; refused ones go to the dead-letter stream.

        An event whose id was taken before is skipped, so a producer that got no answer publishes again.

        Args:
            batch: raw events.
            arrived_us: their arrival, microseconds, shape [n].

        Raises:
            StoreUnavailable: Redis did not take them; which were taken is not known, so publish all again.
            DeadLettersFull: the good ones were taken, the bad ones could not be kept; publish all again later.
        """
        screened = screen(batch, self._pseudonymise, arrived_us)
        numbers = await self._take(screened, arrived_us[screened.kept])
        # After the others: a letter that is not taken is written again when all are published again, and only then.
        await self._bury(dead_letters(batch, screened.refused, self._pseudonymise), screened.refused)
        return Published.of(len(batch), screened.kept, numbers, screened.refused)

    async def republish(self, event: dict[str, Any], arrived_us: int) -> list[FieldError]:
        """Takes one event that carries pseudonyms already, from a dead letter; refused, it makes no other letter.

        Returns:
            Why it was refused; empty when it was taken, now or before.
        """
        batch = EventBatch.from_rows([event])
        screened = screen_pseudonymised(batch, np.array([arrived_us]))
        await self._take(screened, np.full(len(screened.kept), arrived_us))
        return screened.refused

    async def any_taken(self, event_ids: list[str]) -> bool:
        """Whether an event with one of these ids was taken in the last days."""
        return bool(event_ids) and bool(await self._redis.exists(*(f"{SEEN_PREFIX}{i}" for i in event_ids)))

    async def _bury(self, letters: Sequence[bytes], refused: Sequence[FieldError]) -> None:
        if not letters:
            return
        try:
            kept = await self._redis.xlen(DEAD_LETTERS)
            if kept >= self._most_letters:
                FULL.inc()
                raise DeadLettersFull(
                    f"{kept:,} refused events wait to be dealt with, and no more are kept: mend these events, or send "
                    "all of them again later, repeats are skipped"
                )
            await bury(self._redis, letters)
        except (RedisError, OSError) as error:
            raise _unavailable(error) from error
        EVENTS.labels("refused").inc(len(letters))
        for one in refused:
            # A producer chooses the names of unknown fields.
            known = one.field in CATALOGUE.fields or one.field in {VERSION_FIELD, WHOLE_EVENT}
            REFUSED.labels(one.field if known else "unknown").inc()

    async def _take(self, screened: Screened, arrived_us: NDArray[np.int64]) -> NDArray[np.int64]:
        """Numbers and fans out the k accepted events of a batch, arrived at shape [k]; returns the script's numbers."""
        batch = screened.accepted
        n = len(batch)
        fanned = fan_out(batch, np.zeros(n, np.int64), PARTITIONS)
        packed, size = fanned.records.tobytes(), RECORD.itemsize
        bodies = [packed[at + BODY_AT : at + size] for at in range(0, len(packed), size)]
        ends = np.searchsorted(fanned.rows, np.arange(n + 1)).tolist()
        partitions = fanned.partitions.tolist()
        keys = [SEQUENCE_KEY, LOG_STREAM, PARTITION_PREFIX, SEEN_PREFIX]
        numbers: list[int] = []
        for start in range(0, n, _EVENTS_PER_CALL):
            given: list[Any] = [_SEEN_S]
            for row in range(start, min(start + _EVENTS_PER_CALL, n)):
                event, mine = batch.row(row), range(ends[row], ends[row + 1])
                body = orjson.dumps({"event": event, "ingested_at": int(arrived_us[row])})
                given += [event["event_id"], body, len(mine)]
                for i in mine:
                    given += [partitions[i], bodies[i]]
            try:
                numbers += await self._script(keys=keys, args=given)
            except (RedisError, OSError) as error:
                raise _unavailable(error) from error
        signed = np.array(numbers, np.int64)
        EVENTS.labels("accepted").inc(int((signed > 0).sum()))
        EVENTS.labels("repeated").inc(int((signed < 0).sum()))
        return signed


def _unavailable(error: Exception) -> StoreUnavailable:
    return StoreUnavailable(f"Redis did not take the events ({error!r}): publish them again, repeats are skipped")
