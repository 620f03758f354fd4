"""Feast's Redis store as materialisation uses it: it tells how far it is, and stops when the run is no longer its own.

Feast 0.67's engines write without telling anybody; a store of one's own, named in the configuration by its class, is
Feast's documented way to step in between.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final, Literal

from feast.infra.online_stores.redis import RedisOnlineStore, RedisOnlineStoreConfig

STORE_TYPE: Final = "feature_repo.fenced_store.FencedRedisOnlineStore"
_after_batch: ContextVar[Callable[[int], None] | None] = ContextVar("after_batch", default=None)


class FencedRedisOnlineStoreConfig(RedisOnlineStoreConfig):
    """Feast's Redis configuration, with the type that selects `FencedRedisOnlineStore`."""

    # Each of Feast's stores narrows this to a literal of its own; Feast finds the class of a store by it.
    type: Literal["feature_repo.fenced_store.FencedRedisOnlineStore"] = STORE_TYPE  # type: ignore[assignment]


class FencedRedisOnlineStore(RedisOnlineStore):
    """Feast's Redis store; a distributed engine's workers, which do not see the caller, write as Feast does."""

    def online_write_batch(self, config: Any, table: Any, data: Any, progress: Any) -> None:
        """Writes a batch as Feast does, then tells the caller of `watched`."""
        super().online_write_batch(config, table, data, progress)
        tell = _after_batch.get()
        if tell:
            tell(len(data))


@contextmanager
def watched(after_batch: Callable[[int], None]) -> Iterator[None]:
    """Inside, `after_batch` is called with the rows of every batch written; what it raises ends the writing."""
    token = _after_batch.set(after_batch)
    try:
        yield
    finally:
        _after_batch.reset(token)
