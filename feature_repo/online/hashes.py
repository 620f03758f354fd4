"""Commands on the hash in which Feast keeps an entity: read some fields, write some fields, let it expire."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache, lru_cache
from itertools import chain

from feature_repo.online.connection import Command, Reply


class HashFields:
    """Fields that are read together.

    Args:
        fields: their names in the hash.
    """

    def __init__(self, *fields: bytes) -> None:
        self._size = len(fields)
        packed = [b"$%d\r\n%b\r\n" % (len(name), name) for name in fields]
        self._tail = b"\r\n" + b"".join(packed)
        # The whole command is formatted at once: that is cheaper than joining parts. A name may hold a per cent sign.
        self._written = b"\r\n" + b"".join(field.replace(b"%", b"%%") + b"$%d\r\n%b\r\n" for field in packed)
        self._nothing: list[bytes | None] = [None] * len(fields)

    def command(self, key: bytes) -> Command:
        """Reads the fields of one hash."""
        return _head(b"HMGET", self._size, len(key)), key, self._tail

    def commands(self, keys: Iterable[bytes]) -> list[Command]:
        """Reads the fields of many hashes."""
        size, tail = self._size, self._tail
        return [(_head(b"HMGET", size, len(key)), key, tail) for key in keys]

    def write(self, key: bytes, values: Sequence[bytes]) -> Command:
        """Writes all fields of one hash at once."""
        sized = chain.from_iterable((len(value), value) for value in values)
        return _head(b"HSET", 2 * self._size, len(key)), key, self._written % tuple(sized)

    def columns(self, replies: Sequence[Reply]) -> list[Sequence[bytes | None]]:
        """The values of m such commands by field, each of m; None for what does not exist."""
        if not replies:
            return [()] * self._size
        return list(zip(*(reply or self._nothing for reply in replies), strict=True))


def expire(key: bytes, seconds: int) -> Command:
    """Lets a hash expire after so many seconds."""
    return _head(b"EXPIRE", 1, len(key)), key, _argument(seconds)


@lru_cache(maxsize=1024)
def _head(name: bytes, arguments: int, key_length: int) -> bytes:
    return b"*%d\r\n$%d\r\n%b\r\n$%d\r\n" % (arguments + 2, len(name), name, key_length)


@cache
def _argument(number: int) -> bytes:
    text = b"%d" % number
    return b"\r\n$%d\r\n%b\r\n" % (len(text), text)
