"""The online side: every scored event is read when all events before it, and none after, have been applied.

One event at a time would do it, at a read, a script and a fold for each. A run of successive events does the same if
no two of them share an entity. A read looks at the hashes of the event's own entities and of its city; an event that is
applied changes the hashes of its own entities, and only midnight's publication changes a city's. So in a run e1, ...,
ek, what ei would read after e1 to e(i-1) were applied is what it reads before any of them: reading the whole run, and
then publishing and applying it in order, reads what one event at a time would have read. No run spans midnight.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, fields

import numpy as np
import redis.asyncio as aioredis

from feature_repo.event_batch import EventBatch
from feature_repo.event_schemas import SCORED_EVENT_TYPES
from feature_repo.ingestion import screen
from feature_repo.online_reader import OnlineReader, StoreRead
from feature_repo.pseudonyms import Pseudonymiser
from feature_repo.request_features import CityNorms
from feature_repo.streaming.publisher import Publisher
from feature_repo.streaming.worker import Worker
from pipelines.replay import strangers
from tests.parity.traffic import DAY_US, Traffic

LONGEST_RUN = 64
# Every so many runs the producer gets no answer, and publishes the whole run again.
_UNANSWERED = 50
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Online:
    """What serving knew about n scored events, in stream order.

    Attributes:
        events: under pseudonyms, as the transformer gets them.
        read: what the store answered to each.
    """

    events: EventBatch
    read: StoreRead

    def __len__(self) -> int:
        return len(self.events)


async def replay(
    traffic: Traffic,
    redis_url: str,
    pseudonymise: Pseudonymiser,
    midnight: Callable[[int], Awaitable[None]],
    progress: Progress,
    *,
    longest_run: int = LONGEST_RUN,
) -> Online:
    """Reads each scored event, publishes it, and has the worker apply it before an event of the same entities is read.

    Args:
        traffic: what is published, in this order.
        redis_url: the store.
        pseudonymise: the key for ids.
        midnight: called with each day, counted from the epoch, before its first event.
        progress: called with (events published, events in all).
        longest_run: the most events that are read before they are applied; 1 is one at a time.
    """
    screened = screen(traffic.batch, pseudonymise, traffic.arrived_us)
    assert not screened.refused, screened.refused[0]
    wanted = traffic.first & np.isin(screened.accepted["event_type"].astype(str), SCORED_EVENT_TYPES)
    client, reader = aioredis.Redis.from_url(redis_url), OnlineReader(redis_url, timeout_s=30)
    publisher, worker = Publisher(client, pseudonymise), Worker(client, None)
    rows, reads, runs = [], [], 0
    try:
        for day, start, end in _days(traffic):
            await midnight(day)
            for run in strangers(traffic.batch.take(np.arange(start, end)), longest_run):
                positions = run + start
                mine = positions[wanted[positions]]
                if len(mine):
                    rows.append(mine)
                    reads.append(await reader.read(screened.accepted.take(mine)))
                for _ in range(2 if runs % _UNANSWERED == 0 else 1):
                    await publisher.publish(traffic.batch.take(positions), traffic.arrived_us[positions])
                await worker.drain()
                runs += 1
                progress(int(positions[-1]) + 1, len(traffic.batch))
    finally:
        await reader.close()
        await worker.close()
        await client.aclose()
    return Online(screened.accepted.take(np.concatenate(rows)), _joined(reads))


def _days(traffic: Traffic) -> list[tuple[int, int, int]]:
    """Each day with its first row and the row after its last."""
    days, starts = np.unique(traffic.arrived_us // DAY_US, return_index=True)
    ends = [*starts[1:].tolist(), len(traffic.batch)]
    return list(zip(days.tolist(), starts.tolist(), ends, strict=True))


def _joined(reads: list[StoreRead]) -> StoreRead:
    for read in reads:
        assert read.available, read.problem
    names = reads[0].features
    norms = [f.name for f in fields(CityNorms)]
    return StoreRead(
        True,
        {name: np.concatenate([r.features[name] for r in reads]) for name in names},
        CityNorms(*(np.concatenate([getattr(r.norms, name) for r in reads]) for name in norms)),
        np.concatenate([r.interactions for r in reads]),
        np.concatenate([r.interaction_counts for r in reads]),
        np.concatenate([r.sequence for r in reads]),
    )
