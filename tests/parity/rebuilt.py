"""Whether a store that was rebuilt from the log holds the very bytes that the worker wrote."""

from __future__ import annotations

from typing import Any

from feature_repo.feast_format import sequence_field
from feature_repo.streaming.fold import written_fields
from feature_repo.tiles import ACTIVITY_KINDS

_AT_ONCE = 2000


def differing_keys(worked: Any, rebuilt: Any) -> tuple[int, list[bytes]]:
    """Compares the entities of two stores by what a worker writes; batch views, which it does not write, are left out.

    Args:
        worked: a synchronous client of the store that a worker filled.
        rebuilt: one of the store that was rebuilt.

    Returns:
        How many entities there are in either, and the keys of those that differ.
    """
    keys = sorted({key for client in (worked, rebuilt) for key in client.scan_iter("*_id*", 5000)})
    compared, different = 0, []
    for start in range(0, len(keys), _AT_ONCE):
        part = keys[start : start + _AT_ONCE]
        for key, ours, theirs in zip(part, _written(worked, part), _written(rebuilt, part), strict=True):
            if ours or theirs:
                compared += 1
                different += [key] if ours != theirs else []
    return compared, different


def _written(client: Any, keys: list[bytes]) -> list[dict[bytes, bytes]]:
    """Of each hash, the fields that a worker writes; empty where it has written none."""
    pipeline = client.pipeline(transaction=False)
    for key in keys:
        pipeline.hgetall(key)
    return [{name: value for name, value in found.items() if name in _WRITTEN} for found in pipeline.execute()]


_WRITTEN = {field for kind in ACTIVITY_KINDS for field in (sequence_field(kind), *written_fields(kind))}
