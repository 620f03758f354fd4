"""Commands on the hash in which Feast keeps an entity: read some fields, or replace them if nobody else has."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from hashlib import sha1
from itertools import chain

from feature_repo.online.connection import Command, Reply

# KEYS: the hash. ARGV: what its first field must hold, nothing where it must not be there; seconds to live; fields and
# values in turn.
_REPLACE = b"""
if (redis.call('HGET', KEYS[1], ARGV[3]) or '') ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], unpack(ARGV, 3))
redis.call('EXPIRE', KEYS[1], ARGV[2])
return 1
"""


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

    def replace(self, key: bytes, first: bytes, values: Sequence[bytes], seconds: int) -> Command:
        """Writes all fields of one hash at once, and lets it live on, if its first field still holds `first`.

        The reply is 1, or 0 where it does not; a server that lacks the script answers NOSCRIPT (see `by_text`).
        """
        sized = chain.from_iterable((len(value), value) for value in values)
        condition = b"$%d\r\n%b\r\n$%d\r\n%d" % (len(first), first, len(b"%d" % seconds), seconds)
        return _by_hash(self._size, len(key)), key, b"\r\n" + condition + self._written % tuple(sized)

    def columns(self, replies: Sequence[Reply]) -> list[Sequence[bytes | None]]:
        """The values of m such commands by field, each of m; None for what does not exist."""
        if not replies:
            return [()] * self._size
        return list(zip(*(reply or self._nothing for reply in replies), strict=True))


@lru_cache(maxsize=1024)
def _head(name: bytes, arguments: int, key_length: int) -> bytes:
    return b"*%d\r\n$%d\r\n%b\r\n$%d\r\n" % (arguments + 2, len(name), name, key_length)


@lru_cache(maxsize=1024)
def _by_hash(fields: int, key_length: int) -> bytes:
    return b"*%d\r\n%b$1\r\n1\r\n$%d\r\n" % (2 * fields + 6, _BY_HASH, key_length)


def by_text(command: Command) -> Command:
    """A command of `replace` that brings its script along, and leaves it with the server."""
    head, key, rest = command
    return head.replace(_BY_HASH, _BY_TEXT, 1), key, rest


def _packed(*arguments: bytes) -> bytes:
    return b"".join(b"$%d\r\n%b\r\n" % (len(argument), argument) for argument in arguments)


# Redis names a script by its SHA-1.
_BY_HASH = _packed(b"EVALSHA", sha1(_REPLACE, usedforsecurity=False).hexdigest().encode())
_BY_TEXT = _packed(b"EVAL", _REPLACE)
