"""The reads of stage 1 embeddings, for which a batch has a few dozen entities an event."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from feature_repo.distinct_pairs import distinct_pairs
from feature_repo.errors import OnCorrupt
from feature_repo.feast_columns import float_lists
from feature_repo.feast_format import entity_keys, hash_field
from feature_repo.online.connection import Command, Reply
from feature_repo.online.hashes import HashFields
from feature_repo.pseudonyms import ENTITY_KINDS, format_pseudonym

_DIGITS = 16


def embedding_reads(
    project: str, version: str, kinds: NDArray[Any], ids: NDArray[Any], key_ids: NDArray[Any]
) -> tuple[list[Command], NDArray[np.int64]]:
    """Plans the reads of m entities (see `OnlineReader.embeddings`), each once.

    Returns:
        The commands, and which of them each of the m entities needs, shape [m].
    """
    order, new = distinct_pairs(np.asarray(kinds.astype(np.int64) * 256 + key_ids, np.uint16), ids)
    rows = np.empty(len(order), np.int64)
    rows[order] = np.cumsum(new) - 1
    each = order[new]
    digits = ids[each].astype(">u8").tobytes().hex().encode()
    commands = []
    for at, (kind, key_id) in enumerate(zip(kinds[each].tolist(), key_ids[each].tolist(), strict=True)):
        fields, before, after = _key_around_digits(project, version, kind, key_id)
        commands.append(fields.command(before + digits[_DIGITS * at : _DIGITS * (at + 1)] + after))
    return commands, rows


def embeddings_of(
    replies: Sequence[Reply], rows: NDArray[np.int64], dim: int, on_corrupt: OnCorrupt
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Embeddings [m, dim], zeros where unknown, and the 1.0/0.0 mask [m] of those that are known."""
    vectors, known = float_lists([reply[0] if reply else None for reply in replies], dim, on_corrupt)
    broken = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    for row in broken:
        on_corrupt("embedding", "it holds a number that is not finite")
        vectors[row], known[row] = 0.0, False
    return vectors[rows], known[rows].astype(np.float32)


@lru_cache(maxsize=4096)
def _key_around_digits(project: str, version: str, kind_code: int, key_id: int) -> tuple[HashFields, bytes, bytes]:
    """What is read of an entity, and its key before and after the digits of the pseudonym."""
    kind = ENTITY_KINDS[kind_code]
    key = entity_keys(project, (f"{kind}_id",)).key([format_pseudonym(kind, key_id, 0)])
    after = len(project.encode())
    fields = HashFields(hash_field(f"{kind}_embedding_{version}", "embedding"))
    return fields, key[: -after - _DIGITS], key[-after:]
