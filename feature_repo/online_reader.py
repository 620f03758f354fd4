"""Reads the features of a batch of events from Redis, in Feast's format, one pipelined round trip per hop.

The first hop reads tiles, neighbours, profiles and city norms, the second, for the graph model, embeddings. A stored
value that cannot be read counts as absent, so that it costs one entity its past and no event its answer.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

import hiredis
import numpy as np
from numpy.typing import NDArray
from prometheus_client import Counter

from feature_repo.errors import StoreUnavailable
from feature_repo.event_batch import EventBatch
from feature_repo.online.answers import StoreRead, assemble
from feature_repo.online.connection import Command, Reply
from feature_repo.online.embeddings import embedding_reads, embeddings_of
from feature_repo.online.plan import ReadPlan
from feature_repo.online.store import store_at
from feature_repo.settings import RedisType

__all__ = ["CORRUPT", "OnlineReader", "StoreRead"]

CORRUPT = Counter("fraud_corrupt_values", "Stored values that could not be read and count as absent.", ["value"])
log = logging.getLogger("fraud")
_told: set[str] = set()


class OnlineReader:
    """Reads Feast's Redis layout directly.

    Args:
        url: `redis://` or `rediss://` address, with credentials where the server wants them; TLS options as redis-py
            reads them (`?ssl_ca_certs=...`). Of a cluster, any of its servers.
        project: the Feast project.
        timeout_s: the longest that one hop may take.
        redis_type: whether the address is one server or a cluster.
    """

    def __init__(
        self, url: str, project: str = "fraud", timeout_s: float = 0.02, redis_type: RedisType = "redis"
    ) -> None:
        self._project = project
        self._timeout_s = timeout_s
        self._store = store_at(url, redis_type)

    async def close(self) -> None:
        """Closes the connections."""
        await self._store.close()

    async def ping(self) -> bool:
        """Whether the store answers in time."""
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._store.ping()
        except (StoreUnavailable, OSError):
            return False
        return True

    async def read(self, batch: EventBatch) -> StoreRead:
        """Reads everything but embeddings; `StoreRead.nothing` when the store does not answer in time."""
        plan = ReadPlan.of(batch, self._project)
        try:
            replies = await self._ask(plan.commands)
        except StoreUnavailable as error:
            return StoreRead.nothing(len(batch), str(error))
        return assemble(plan, batch, replies, _count_corrupt)

    async def embeddings(
        self, version: str, kinds: NDArray[Any], ids: NDArray[Any], key_ids: NDArray[Any], dim: int
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Reads the stage 1 embeddings of m entities.

        Args:
            version: graph model version, as in the view's name.
            kinds: index into `ENTITY_KINDS`, shape [m].
            ids: 64-bit hashes, shape [m].
            key_ids: pseudonym key ids, shape [m].
            dim: numbers per embedding.

        Returns:
            Embeddings [m, dim], zeros where the entity has none, and a 1.0/0.0 mask [m] of those that have.

        Raises:
            StoreUnavailable: Redis did not answer in time.
        """
        commands, rows = embedding_reads(self._project, version, kinds, ids, key_ids)
        return embeddings_of(await self._ask(commands), rows, dim, _count_corrupt)

    async def _ask(self, commands: Sequence[Command]) -> list[Reply]:
        """The replies, None for a key that holds no hash."""
        if not commands:
            return []
        try:
            async with asyncio.timeout(self._timeout_s):
                replies = await self._store.ask(commands)
        except TimeoutError as error:
            raise StoreUnavailable(f"the online store did not answer within {self._timeout_s * 1000:g} ms") from error
        except OSError as error:
            raise StoreUnavailable(f"the online store cannot be reached: {error}") from error
        for place, reply in enumerate(replies):
            if isinstance(reply, hiredis.ReplyError):
                if not str(reply).startswith("WRONGTYPE"):
                    raise StoreUnavailable(f"the online store does not serve: {reply}")
                _count_corrupt("key", reply)
                replies[place] = None
        return replies


def _count_corrupt(value: str, problem: object) -> None:
    """Counts a value that cannot be read; one line for the first of a sort, for a sick store would flood the log."""
    CORRUPT.labels(value).inc()
    if value not in _told:
        _told.add(value)
        log.warning("a stored %s is treated as absent, and so will others be: %s", value, problem)
