"""Whole columns of Feast values at once: the same numbers as `feast_format.decode_value`, message by message.

Values come in one spelling, the one that Feast's protobuf writes, and columns of it are read by array operations. A
column with any other message is read one by one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from feature_repo.errors import CorruptValue, OnCorrupt
from feature_repo.feast_format import FeastValue, bytes_value_head, decode_value, encode_int64_value, float_list_head

# An int64 message is its tag and a varint of at most ten bytes: seven bits of the number in each, the lowest first, and
# the top bit set in all but the last. `_GOES_ON` says for every length of the message which top bits are; one that is
# too short to hold a varint has a pattern that no message has.
_VARINT_WIDTH = 11
_GOES_ON = np.array(
    [[length < 2 or 0 < at < length - 1 for at in range(_VARINT_WIDTH)] for length in range(_VARINT_WIDTH + 1)]
)
_WEIGHTS = np.array([2 ** (7 * place) for place in range(_VARINT_WIDTH - 1)], np.uint64)

_INT64_TAG = encode_int64_value(0)[0]


def decode_values(messages: Iterable[bytes | None], on_corrupt: OnCorrupt) -> list[FeastValue]:
    """Reads messages of any of these types; None for one that is absent, null or corrupt."""
    values: list[FeastValue] = []
    for message in messages:
        try:
            values.append(decode_value(message))
        except CorruptValue as error:
            on_corrupt("message", error)
            values.append(None)
    return values


def bytes_values(messages: Iterable[bytes | None], on_corrupt: OnCorrupt) -> list[bytes | None]:
    """Reads `bytes_val` messages; None for one that is anything else."""
    values: list[bytes | None] = []
    for message in messages:
        if message and message.startswith(head := bytes_value_head(len(message))):
            values.append(message[len(head) :])
        else:
            (value,) = decode_values([message], on_corrupt)
            values.append(value if isinstance(value, bytes) else None)
    return values


def int64_values(messages: Sequence[bytes | None], absent: Sequence[int], on_corrupt: OnCorrupt) -> NDArray[np.int64]:
    """Reads n `int64_val` messages; what `absent` [n] says for one that is anything else."""
    filled = [message or encode_int64_value(other) for message, other in zip(messages, absent, strict=True)]
    lengths = [len(message) for message in filled]
    if max(lengths, default=0) <= _VARINT_WIDTH:
        padded = b"".join([message.ljust(_VARINT_WIDTH, b"\0") for message in filled])
        table = np.frombuffer(padded, np.uint8).reshape(-1, _VARINT_WIDTH)
        if (table[:, 0] == _INT64_TAG).all() and ((table > 0x7F) == _GOES_ON[lengths]).all():
            numbers: NDArray[np.int64] = ((table[:, 1:] & 0x7F).astype(np.uint64) @ _WEIGHTS).view(np.int64)
            return numbers
    values = decode_values(messages, on_corrupt)
    return np.array([v if isinstance(v, int) else a for v, a in zip(values, absent, strict=True)], np.int64)


def float_lists(
    messages: Sequence[bytes | None], size: int, on_corrupt: OnCorrupt
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Reads n `float_list_val` messages of `size` numbers each.

    Returns:
        The lists [n, size], zeros for one that is anything else, and which of the n are lists of this size.
    """
    head, absent = float_list_head(size), bytes(4 * size)
    usual = [
        message is None or (len(message) == len(head) + 4 * size and message.startswith(head)) for message in messages
    ]
    if all(usual):
        bodies = [message[len(head) :] if message else absent for message in messages]
        known = np.array([message is not None for message in messages], np.bool_)
        return np.frombuffer(bytearray().join(bodies), "<f4").reshape(-1, size), known
    lists = [v if isinstance(v, np.ndarray) and len(v) == size else None for v in decode_values(messages, on_corrupt)]
    values = np.array([np.zeros(size) if v is None else v for v in lists], np.float32).reshape(-1, size)
    return values, np.array([v is not None for v in lists], np.bool_)
