"""How often a counterpart stands in the histories of an event's entities, against counting one by one."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from feature_repo.graph_features import co_occurrence

KINDS, K = 4, 3


@st.composite
def histories(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Events whose entities met few counterparts, so that they meet again; some are among the event's own."""
    n = draw(st.integers(0, 3))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    counts = rng.integers(0, K + 1, (n, KINDS))
    return (
        rng.integers(0, 4, (n, KINDS, K)),
        np.arange(K) < counts[:, :, None],
        rng.integers(0, 6, (n, KINDS)),
        rng.random((n, KINDS)) < 0.7,
    )


@given(histories())
def test_it_equals_counting_one_by_one(given_: tuple[np.ndarray, ...]) -> None:
    counterparts, exists, own, has = given_
    found = co_occurrence(counterparts, exists, own, has)
    assert found.shape == (*counterparts.shape, KINDS + 1)
    assert found.dtype == np.float32
    for event, kind, back in np.ndindex(counterparts.shape):
        who = counterparts[event, kind, back]
        times = [
            sum(int(exists[event, other, j] and counterparts[event, other, j] == who) for j in range(K))
            for other in range(KINDS)
        ]
        is_own = any(has[event, other] and own[event, other] == who for other in range(KINDS))
        expected = [*map(math.log1p, times), float(is_own)] if exists[event, kind, back] else [0.0] * (KINDS + 1)
        np.testing.assert_allclose(found[event, kind, back], expected, rtol=1e-6)


@given(histories())
def test_what_lies_beyond_the_count_changes_nothing(given_: tuple[np.ndarray, ...]) -> None:
    counterparts, exists, own, has = given_
    other = np.where(exists, counterparts, 0)
    np.testing.assert_array_equal(
        co_occurrence(other, exists, np.where(has, own, 0), has), co_occurrence(counterparts, exists, own, has)
    )
