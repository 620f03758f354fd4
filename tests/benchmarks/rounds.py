"""Interleaved rounds: both sides meet the same disturbances of a shared machine."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

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
    return compared(*in_turn(rounds, partial(_timed, ours, calls), partial(_timed, peer, calls)))


def in_turn(rounds: int, *sides: Callable[[], float]) -> list[tuple[float, ...]]:
    """Lets every side measure itself once a round; returns the seconds of each, by round."""
    return list(zip(*(tuple(side() for side in sides) for _ in range(rounds)), strict=True))


def compared(ours: Sequence[float], peer: Sequence[float]) -> Comparison:
    """Compares what two sides took in the same rounds."""
    ratios = [b / a for a, b in zip(ours, peer, strict=True)]
    return Comparison(statistics.median(ours), statistics.median(peer), statistics.median(ratios))


def _timed(call: Callable[[], object], calls: int) -> float:
    started = time.perf_counter()
    for _ in range(calls):
        call()
    return (time.perf_counter() - started) / calls
