"""What hostile requests are made of."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any

Body = dict[str, Any]

HUGE = 2**63
VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 1.5, -0.0, 1e308, 2**31, HUGE - 1, HUGE, -HUGE, 10**30, float("nan"), float("inf")),
    *("", "x", "\x00", "é", "\u202e", "NaN", "1", "a" * 5000, "../../etc/passwd", "${jndi:ldap://x}", "%s%n", "😀"),
    *([], {}, [[]], [None], [1, "a"], [[1], [2, 3]], {"a": 1}, [[[[[[1]]]]]]),
)
DATATYPES: tuple[Any, ...] = (
    *("FP64", "FP32", "FP16", "BF16", "INT64", "INT32", "UINT8", "BOOL", "BYTES", "STRING", "", "fp64", None, 7, []),
)
SHAPES: tuple[Any, ...] = (
    *([], [0], [-1], [1], [2], [1, 1], [1, 1, 1], [HUGE - 1], [HUGE - 1, 2], [2**32, 2**32], [1.0], [True], ["1"]),
    *(None, 1, "1", {}, [None], [[1]], [10**30], [-HUGE], [0, HUGE - 1], [1] * 100),
)
OUTPUTS = ("", "probability", "contributions", "neighbour_influence", "decision", "x" * 300)

_PACKED = {"FP64": "d", "FP32": "f", "INT64": "q", "BOOL": "?"}


def numbers(tensor: Mapping[str, Any]) -> list[Any]:
    """A sound tensor's values, null as NaN."""
    return [float("nan") if value is None else value for value in tensor["data"]]


def raw(tensor: Mapping[str, Any]) -> bytes:
    """A sound tensor's values as V2 packs them."""
    if tensor["datatype"] == "BYTES":
        texts = [str(value).encode() for value in tensor["data"]]
        return b"".join(struct.pack("<I", len(text)) + text for text in texts)
    values = numbers(tensor)
    return struct.pack(f"<{len(values)}{_PACKED[tensor['datatype']]}", *values)
