"""The bytes that Feast 0.67 keeps in Redis (entity key serialisation version 3).

Feast owns the format; a test compares every function here with Feast's own. Written out because the request path has no
room for the SDK (about 1 ms a read) and the transformer's image does not carry it. A key is the join keys and values,
length-prefixed, and the project; a hash field is the little-endian murmur3 of `view:feature`; a value is a serialised
`feast.types.Value` protobuf message.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from functools import cache, lru_cache

import mmh3
import numpy as np

from feature_repo.errors import CorruptValue

_STRING_TYPE = 2  # feast.types.ValueType.STRING
_BYTES_FIELD, _INT64_FIELD, _DOUBLE_FIELD, _FLOAT_LIST_FIELD = 1, 4, 5, 16
_VARINT, _FIXED64, _LENGTH = 0, 1, 2

FeastValue = bytes | int | float | np.ndarray[tuple[int], np.dtype[np.float32]] | None


def redis_key(project: str, join_keys: Mapping[str, str]) -> bytes:
    """The Redis key of an entity given by string join keys."""
    names = sorted(join_keys)
    parts = [struct.pack("<I", len(names))]
    for text in names:
        name = text.encode()
        parts += [struct.pack("<II", _STRING_TYPE, len(name)), name]
    for text in names:
        value = join_keys[text].encode()
        parts += [struct.pack("<II", _STRING_TYPE, len(value)), value]
    return b"".join([*parts, project.encode()])


@cache
def hash_field(view: str, feature: str) -> bytes:
    """The hash field of one feature."""
    return struct.pack("<I", mmh3.hash(f"{view}:{feature}", signed=False))


def timestamp_field(view: str) -> bytes:
    """The hash field that holds when a view's values became usable."""
    return f"_ts:{view}".encode()


def encode_bytes_value(value: bytes) -> bytes:
    """A `Value` message with `bytes_val`."""
    return _bytes_head(len(value)) + value


@lru_cache(65_536)
def _bytes_head(length: int) -> bytes:
    return _tag(_BYTES_FIELD, _LENGTH) + _varint(length)


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


def _decode(message: bytes) -> FeastValue:
    tag, at = _read_varint(message, 0)
    number, wire = tag >> 3, tag & 7
    if number == _DOUBLE_FIELD and wire == _FIXED64:
        return float(struct.unpack_from("<d", message, at)[0])
    first, at = _read_varint(message, at)
    if wire == _VARINT:
        return (first - 2**64 if first >= 2**63 else first) if number == _INT64_FIELD else None
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
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
