"""Distinct pairs of a small number and a 64-bit hash, many at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def distinct_pairs(
    groups: NDArray[np.uint16], hashes: NDArray[np.uint64]
) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """Sorts n pairs by group, then hash.

    Returns:
        The order [n], and which of the sorted pairs differ from the one before them [n].
    """
    # A stable sort of 16-bit numbers is a radix sort; `lexsort` would take three times as long.
    order = np.argsort(hashes)
    order = order[np.argsort(groups[order], kind="stable")]
    group, value = groups[order], hashes[order]
    new = np.ones(len(order), np.bool_)
    new[1:] = (value[1:] != value[:-1]) | (group[1:] != group[:-1])
    return order, new
