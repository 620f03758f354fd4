"""The bytes that Feast 0.67 keeps in Redis (entity key serialisation version 3).

Feast owns the format; a test compares every function here with Feast's own. Written out because the request path has no
room for the SDK (about 1 ms a read) and the transformer's image does not carry it. A key is the join keys and values,
length-prefixed, and the project; a hash field is the little-endian murmur3 of `view:feature`; a value is a serialised
`feast.types.Value` protobuf message.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from functools import cache, lru_cache

import mmh3
import numpy as np

from feature_repo.errors import CorruptValue

_STRING_TYPE = 2  # feast.types.ValueType.STRING
_BYTES_FIELD, _INT64_FIELD, _DOUBLE_FIELD, _FLOAT_LIST_FIELD = 1, 4, 5, 16
_VARINT, _FIXED64, _LENGTH = 0, 1, 2

FeastValue = bytes | int | float | np.ndarray[tuple[int], np.dtype[np.float32]] | None


class EntityKeys:
    """Writes the Redis keys of entities that the same string join keys name.

    Args:
        project: the Feast project.
        names: the join keys, in the order in which their values will be given.
    """

    def __init__(self, project: str, names: Sequence[str]) -> None:
        self._order = sorted(range(len(names)), key=names.__getitem__)
        self._head = struct.pack("<I", len(names)) + b"".join(_text(names[i].encode()) for i in self._order)
        self._project = project.encode()

    def key(self, values: Sequence[str]) -> bytes:
        """The key of one entity."""
        return b"".join([self._head, *(_text(values[i].encode()) for i in self._order), self._project])

    def keys(self, entities: Iterable[Sequence[str]]) -> list[bytes]:
        """The keys of many entities."""
        if len(self._order) > 1:
            return [self.key(values) for values in entities]
        head, project = self._head, self._project
        texts = [text.encode() for (text,) in entities]
        return [b"".join((head, _text_head(len(text)), text, project)) for text in texts]


def _text(text: bytes) -> bytes:
    return _text_head(len(text)) + text


@lru_cache(maxsize=1024)
def _text_head(length: int) -> bytes:
    return struct.pack("<II", _STRING_TYPE, length)


def redis_key(project: str, join_keys: Mapping[str, str]) -> bytes:
    """The Redis key of an entity given by string join keys."""
    return entity_keys(project, tuple(join_keys)).key(tuple(join_keys.values()))


@cache
def entity_keys(project: str, names: tuple[str, ...]) -> EntityKeys:
    """The writer of the keys of the entities that these join keys name; always the same one."""
    return EntityKeys(project, names)


@cache
def hash_field(view: str, feature: str) -> bytes:
    """The hash field of one feature."""
    return struct.pack("<I", mmh3.hash(f"{view}:{feature}", signed=False))


def timestamp_field(view: str) -> bytes:
    """The hash field that holds when a view's values became usable."""
    return f"_ts:{view}".encode()


def sequence_field(kind: str) -> bytes:
    """The hash field of our own that holds the number of the last event applied to an entity, in decimal digits."""
    return f"_seq:{kind}".encode()


def encode_bytes_value(value: bytes) -> bytes:
    """A `Value` message with `bytes_val`."""
    return _bytes_head(len(value)) + value


@lru_cache(65_536)
def _bytes_head(length: int) -> bytes:
    return _tag(_BYTES_FIELD, _LENGTH) + _varint(length)


@lru_cache(maxsize=1024)
def encode_int64_value(value: int) -> bytes:
    """A `Value` message with `int64_val`."""
    return _tag(_INT64_FIELD, _VARINT) + _varint(value % 2**64)


@lru_cache(65_536)
def encode_timestamp(microseconds: int) -> bytes:
    """A `google.protobuf.Timestamp` message."""
    seconds, rest = divmod(microseconds, 1_000_000)
    message = _tag(1, _VARINT) + _varint(seconds) if seconds else b""
    return message + (_tag(2, _VARINT) + _varint(rest * 1000) if rest else b"")


def decode_value(message: bytes | None) -> FeastValue:
    """Reads a `Value` message of the types that our views use: bytes, int64, double, list of float32.

    Returns:
        The value; None when it is absent or null.

    Raises:
        CorruptValue: not such a message.
    """
    if not message:
        return None
    try:
        return _decode(message)
    except (IndexError, struct.error, ValueError) as error:
        raise CorruptValue(f"a stored value of {len(message)} bytes is not a Feast Value: {error}") from error


@lru_cache(maxsize=2**14)
def bytes_value_head(length: int) -> bytes:
    """What a `bytes_val` message of `length` bytes begins with; longer than the message where none has that length."""
    for size in range(1, 6):
        body = length - 1 - size
        if body >= 0 and len(_varint(body)) == size:
            return _tag(_BYTES_FIELD, _LENGTH) + _varint(body)
    return bytes(length + 1)


@cache
def float_list_head(size: int) -> bytes:
    """What a `float_list_val` message of `size` numbers begins with; the numbers follow, 4 bytes each."""
    inner = _tag(1, _LENGTH) + _varint(4 * size)
    return _tag(_FLOAT_LIST_FIELD, _LENGTH) + _varint(len(inner) + 4 * size) + inner


def _decode(message: bytes) -> FeastValue:
    tag, at = _read_varint(message, 0)
    number, wire = tag >> 3, tag & 7
    if number == _DOUBLE_FIELD and wire == _FIXED64:
        return float(struct.unpack_from("<d", message, at)[0])
    first, at = _read_varint(message, at)
    if wire == _VARINT:
        # As protobuf does: of a longer number the lowest 64 bits, in two's complement.
        return (first + 2**63) % 2**64 - 2**63 if number == _INT64_FIELD else None
    body = message[at : at + first]
    if len(body) != first:
        raise ValueError("it is cut short")
    if number == _BYTES_FIELD:
        return body
    if number == _FLOAT_LIST_FIELD:
        return _float_list(body)
    raise ValueError(f"field {number} is of a type that no view uses")


def _float_list(body: bytes) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    if not body:
        return np.zeros(0, np.float32)
    _, at = _read_varint(body, 0)
    length, at = _read_varint(body, at)
    return np.frombuffer(body, "<f4", length // 4, at)


def _tag(number: int, wire: int) -> bytes:
    return _varint(number << 3 | wire)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while shift < 70:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise ValueError("a number has more than ten bytes")
