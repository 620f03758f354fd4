"""HMGET commands: some fields of the hash in which Feast keeps an entity."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from feature_repo.online.connection import Command, Reply


class HashFields:
    """Fields that are read together.

    Args:
        fields: their names in the hash.
    """

    def __init__(self, *fields: bytes) -> None:
        self._size = len(fields)
        self._tail = b"\r\n" + b"".join(b"$%d\r\n%b\r\n" % (len(name), name) for name in fields)
        self._nothing: list[bytes | None] = [None] * len(fields)

    def command(self, key: bytes) -> Command:
        """Reads the fields of one hash."""
        return _head(self._size, len(key)), key, self._tail

    def columns(self, replies: Sequence[Reply]) -> list[Sequence[bytes | None]]:
        """The values of m such commands by field, each of m; None for what does not exist."""
        if not replies:
            return [()] * self._size
        return list(zip(*(reply or self._nothing for reply in replies), strict=True))


@lru_cache(maxsize=1024)
def _head(fields: int, key_length: int) -> bytes:
    return b"*%d\r\n$5\r\nHMGET\r\n$%d\r\n" % (fields + 2, key_length)
