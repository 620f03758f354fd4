"""Live ingestion: numbers events and puts one record per entity on the partition that owns the entity."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import mmh3
import numpy as np
import orjson
from numpy.typing import NDArray

from feature_repo.event_batch import EventBatch
from feature_repo.event_schemas.validation import FieldError
from feature_repo.ingestion import dead_letters, screen
from feature_repo.pseudonyms import Pseudonymiser
from feature_repo.tiles import ACTIVITY_KINDS

PARTITIONS = 4
SEQUENCE_KEY = "fraud:stream_seq"
DEAD_LETTERS = "fraud:dead_letters"
LOG_STREAM = "fraud:event_log"
_PARTITION_PREFIX = "fraud:events:"
_SEEN_PREFIX = "fraud:seen:"
# A producer repeats what it was not answered for within hours; the event log drops later repeats.
_SEEN_S = 3 * 86_400
# Redis serves nobody else while a script runs: a hundred events take it a few milliseconds.
_EVENTS_PER_CALL = 100

# Numbering and writing are one step, so that the numbers of every stream ascend whoever publishes at the same time:
# the worker takes a lower number after a higher one for a repeat. KEYS: sequence, log stream, partition prefix, seen
# prefix. ARGV: seconds an id is remembered, then per event its id, its body and its `kind:partition` owners.
_PUBLISH = """
for i = 2, #ARGV, 3 do
  if redis.call('SET', KEYS[4] .. ARGV[i], '1', 'NX', 'EX', ARGV[1]) then
    local number = redis.call('INCR', KEYS[1])
    redis.call('XADD', KEYS[2], '*', 'event', ARGV[i + 1], 'stream_seq', number)
    for kind, partition in string.gmatch(ARGV[i + 2], '([%a_]+):(%d+)') do
      redis.call('XADD', KEYS[3] .. partition, '*', 'kind', kind, 'event', ARGV[i + 1], 'stream_seq', number)
    end
  end
end
"""


def partition_stream(partition: int) -> str:
    """The stream of one partition."""
    return f"{_PARTITION_PREFIX}{partition}"


class Publisher:
    """Takes raw events from producers.

    Args:
        redis: an asynchronous Redis client.
        pseudonymise: the key for ids.
    """

    def __init__(self, redis: Any, pseudonymise: Pseudonymiser) -> None:
        self._redis = redis
        self._pseudonymise = pseudonymise
        self._script = redis.register_script(_PUBLISH)

    async def publish(self, batch: EventBatch, arrived_us: NDArray[np.int64]) -> list[FieldError]:
        """Validates, pseudonymises, numbers and fans out n events; refused ones go to the dead-letter stream.

        An event whose id was taken before is skipped, so a producer that got no answer publishes again.

        Args:
            batch: raw events.
            arrived_us: their arrival, microseconds, shape [n].

        Returns:
            Why events were refused; empty when all were taken.
        """
        screened = screen(batch, self._pseudonymise, arrived_us)
        letters = dead_letters(batch, screened.refused, self._pseudonymise)
        if letters:
            pipeline = self._redis.pipeline(transaction=False)
            for letter in letters:
                pipeline.xadd(DEAD_LETTERS, {"letter": letter})
            await pipeline.execute()
        keys = [SEQUENCE_KEY, LOG_STREAM, _PARTITION_PREFIX, _SEEN_PREFIX]
        for start in range(0, len(screened.kept), _EVENTS_PER_CALL):
            given: list[Any] = [_SEEN_S]
            for offset in range(start, min(start + _EVENTS_PER_CALL, len(screened.kept))):
                event, arrived = screened.accepted.row(offset), int(arrived_us[screened.kept[offset]])
                owned = ",".join(f"{kind}:{partition}" for kind, partition in owners(event))
                given += [event["event_id"], orjson.dumps({"event": event, "ingested_at": arrived}), owned]
            await self._script(keys=keys, args=given)
        return screened.refused

    async def any_taken(self, event_ids: list[str]) -> bool:
        """Whether an event with one of these ids was taken in the last days."""
        return bool(event_ids) and bool(await self._redis.exists(*(f"{_SEEN_PREFIX}{i}" for i in event_ids)))


def owners(event: dict[str, Any]) -> Iterable[tuple[str, int]]:
    """The entity kinds of an event and the partition that owns each entity."""
    for kind, activity in ACTIVITY_KINDS.items():
        ids = [event.get(name) for name in activity.id_fields]
        if all(ids):
            yield kind, mmh3.hash("|".join([kind, *map(str, ids)]), signed=False) % PARTITIONS
