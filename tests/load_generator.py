"""Load from a process of its own: POSTs over HTTP/1.1 connections that are open before, every status and body checked.

Whether the generator kept up is in its result: each request has the time at which it was due and that at which it was
written. The process is `load_process`.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import NamedTuple

from tests.load import percentile


@dataclass(frozen=True)
class Work:
    """What is asked of a server.

    Attributes:
        port: on this machine.
        path: of every request.
        bodies: JSON requests, sent in turn.
        must_hold: what every answer of 200 holds.
        connections: requests at the same time, at most.
        seconds: for how long.
        rate: requests a second of Poisson arrivals; 0 sends the next one when the last is answered.
        seed: of the arrivals.
        begin: on `time.perf_counter`, which all processes share; one that is past is now.
    """

    port: int
    path: str
    bodies: Sequence[str]
    must_hold: str
    connections: int
    seconds: float
    rate: float = 0.0
    seed: int = 0
    begin: float = 0.0


class Exchange(NamedTuple):
    """One request and its answer; times in seconds from the beginning.

    Attributes:
        due: when it should have been sent.
        sent: when it was written.
        ended: when its answer was there, or it was given up.
        status: 0 when it was given up, -1 when the connection was lost.
        right: whether the status is 200 and the answer holds what it must.
    """

    due: float
    sent: float
    ended: float
    status: int
    right: bool

    @property
    def took(self) -> float:
        """From when it was due: what waits for the generator has waited too."""
        return self.ended - self.due


@dataclass(frozen=True)
class Load:
    """What came of it.

    Attributes:
        seconds: from the first request to the last answer.
        exchanges: in the order of their ends.
    """

    seconds: float
    exchanges: Sequence[Exchange]

    @property
    def requests(self) -> int:
        """Answered, and given up at the end."""
        return len(self.exchanges)

    @property
    def failures(self) -> int:
        """Given up, not answered with 200, or without what must be in it."""
        return sum(not exchange.right for exchange in self.exchanges)

    @property
    def rate(self) -> float:
        """Requests answered as they must be, a second."""
        return (self.requests - self.failures) / self.seconds

    @property
    def p50_ms(self) -> float:
        """Median time of a request; with arrivals, from its arrival on."""
        return self._percentile_ms(0.5)

    @property
    def p99_ms(self) -> float:
        """The 99th percentile."""
        return self._percentile_ms(0.99)

    def _percentile_ms(self, share: float) -> float:
        return 1000 * percentile([exchange.took for exchange in self.exchanges], share)


def load(work: Work) -> Load:
    """Makes the load, and returns when the last answers are there."""
    command = [sys.executable, "-m", "tests.load_process"]
    ended = subprocess.run(command, input=json.dumps(asdict(work)), capture_output=True, text=True, check=False)
    if ended.returncode:
        raise RuntimeError(ended.stderr[-2000:])
    seconds, exchanges = json.loads(ended.stdout)
    return Load(seconds, [Exchange(*exchange) for exchange in exchanges])
