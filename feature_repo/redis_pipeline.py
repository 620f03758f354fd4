"""Many commands in one round trip: commands packed by us, sent and answered over redis-py's own connection.

redis-py's pipeline spends more time on packing a command and on dispatching its answer than Redis does on the command.
Connecting, logging in, TLS, time-outs and reading stay redis-py's. `tests/benchmarks/redis_pipeline.py` compares both.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

# Redis holds the answers to what it has been sent: a bound on its memory and ours.
_COMMANDS_AT_ONCE = 4000


def pack(*arguments: bytes) -> bytes:
    """A command in the Redis protocol (RESP: an array of bulk strings)."""
    return b"".join([b"*%d\r\n" % len(arguments), *map(_bulk, arguments)])


def _bulk(argument: bytes) -> bytes:
    return b"$%d\r\n%b\r\n" % (len(argument), argument)


class Template:
    """A command whose later arguments stay the same: `template(key, *values)` packs it.

    Args:
        command: its name.
        fields: names that follow the key, each with a value of its own if `valued`.
        valued: whether a value follows each field.
    """

    def __init__(self, command: bytes, fields: Sequence[bytes], *, valued: bool = False) -> None:
        count = 2 + len(fields) * (2 if valued else 1)
        self._head = b"*%d\r\n" % count + _bulk(command) + b"$"
        self._fields = [_bulk(field) for field in fields]
        self._tail = b"\r\n" + b"".join(self._fields)

    def __call__(self, key: bytes) -> bytes:
        """The command for one key, without values."""
        return b"%b%d\r\n%b%b" % (self._head, len(key), key, self._tail)

    def with_values(self, key: bytes, values: Sequence[bytes]) -> bytes:
        """The command for one key, with a value for each field."""
        parts = [b"%b%d\r\n%b\r\n" % (self._head, len(key), key)]
        for field, value in zip(self._fields, values, strict=True):
            parts += (field, b"$%d\r\n" % len(value), value, b"\r\n")
        return b"".join(parts)


async def execute(redis: Any, commands: Sequence[bytes]) -> list[Any]:
    """Sends packed commands and returns their answers in order; an error that answers one stands in its place.

    Args:
        redis: an asynchronous redis-py client of one server.
        commands: what `pack` or a `Template` returned.

    Raises:
        RedisError, OSError: the connection failed; which commands were carried out is not known.
    """
    answers: list[Any] = []
    connection = await redis.connection_pool.get_connection()
    try:
        for start in range(0, len(commands), _COMMANDS_AT_ONCE):
            part = commands[start : start + _COMMANDS_AT_ONCE]
            await connection.send_packed_command([b"".join(part)])
            # The parser itself: the connection's own method costs more than Redis's work, and raises what it answers.
            parser = connection._parser
            answers += [await parser.read_response(disable_decoding=True) for _ in part]
    except BaseException:
        # Answers may be on their way still: nobody else may read them.
        await connection.disconnect(nowait=True)
        raise
    finally:
        await redis.connection_pool.release(connection)
    return answers
