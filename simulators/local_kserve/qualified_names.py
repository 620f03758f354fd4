"""Which labels and annotations Kubernetes takes: the forms of their keys and values. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

_WORD = r"[A-Za-z0-9](?:[-A-Za-z0-9_.]*[A-Za-z0-9])?"
_NAME = re.compile(rf"(?=.{{1,63}}\Z){_WORD}")
_VALUE = re.compile(rf"(?=.{{0,63}}\Z)(?:{_WORD})?")
# RFC 1123, parted by dots.
_PREFIX = re.compile(r"(?=.{1,253}\Z)[a-z0-9](?:[-a-z0-9]*[a-z0-9])?(?:\.[a-z0-9](?:[-a-z0-9]*[a-z0-9])?)*")

_OF = "letters, digits, '-', '_' and '.', the first and the last a letter or a digit"


def metadata_problems(metadata: Mapping[str, Any]) -> Iterator[str]:
    """Every key, and every label's value, that an API server refuses, in words."""
    for field in ("labels", "annotations"):
        for key in metadata.get(field) or {}:
            # Keys of annotations may have capitals in the prefix.
            if not _is_key(key.lower() if field == "annotations" else key):
                yield f"metadata.{field}: {key!r} must be [domain/]name, the name at most 63 {_OF}"
    for key, value in (metadata.get("labels") or {}).items():
        if not _VALUE.fullmatch(value or ""):
            yield f"metadata.labels: the value {value!r} of {key!r} must be empty, or at most 63 {_OF}"


def _is_key(key: str) -> bool:
    prefix, slash, name = key.rpartition("/")
    return bool(_NAME.fullmatch(name)) and (not slash or bool(_PREFIX.fullmatch(prefix)))
