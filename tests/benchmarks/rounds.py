"""Interleaved rounds: both sides meet the same disturbances of a shared machine."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

ROUNDS = 7


@dataclass(frozen=True)
class Comparison:
    """Seconds per call of both sides, the median of the rounds, and the median of the rounds' ratios.

    Attributes:
        ours_s: ours.
        peer_s: the peer's.
        ratio: how many times faster ours is.
    """

    ours_s: float
    peer_s: float
    ratio: float


def compare(ours: Callable[[], object], peer: Callable[[], object], calls: int) -> Comparison:
    """Times both in turn, after one untimed round."""
    interleave(ours, peer, calls, 1)
    return interleave(ours, peer, calls, ROUNDS)


def interleave(ours: Callable[[], object], peer: Callable[[], object], calls: int, rounds: int) -> Comparison:
    """Times both in turn; the caller has run both before."""
    pairs = [(_timed(ours, calls), _timed(peer, calls)) for _ in range(rounds)]
    mine, theirs = zip(*pairs, strict=True)
    return Comparison(statistics.median(mine), statistics.median(theirs), statistics.median(b / a for a, b in pairs))


def _timed(call: Callable[[], object], calls: int) -> float:
    started = time.perf_counter()
    for _ in range(calls):
        call()
    return (time.perf_counter() - started) / calls
