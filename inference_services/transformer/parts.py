"""The parts that a decision asks, each behind a circuit breaker with its metrics and its two lines of log."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic

from prometheus_client import Counter, Gauge

from inference_services.admission import waiting
from inference_services.errors import PartDown
from inference_services.transformer.breaker import Breaker, State

BREAKER = Gauge("fraud_breaker_state", "Whether a part is asked: 0 yes, 2 no, 1 when a trial is under way.", ["part"])
OPENED = Counter("fraud_breaker_opened", "Times that a part was given up.", ["part"])
FAILED = Counter("fraud_part_failures", "Calls of a part that were not answered in time and usably.", ["part"])

log = logging.getLogger("fraud")


class Part:
    """One part.

    Args:
        name: as in `degraded`.
        failures: how many in a row give the part up.
        retry_s: how long it is left alone before one call tries it, seconds.
    """

    def __init__(self, name: str, failures: int, retry_s: float) -> None:
        self._name = name
        self._failures = failures
        self._retry_s = retry_s
        self._breaker = Breaker(failures, retry_s)
        self._down = False
        self._state = BREAKER.labels(name)
        self._state.set(State.CLOSED.value)
        for counter in (OPENED, FAILED):
            counter.labels(name)  # shown from the start, as 0

    def reset(self) -> None:
        """Forgets what failed: the next call is made."""
        self._breaker = Breaker(self._failures, self._retry_s)
        self._tell("")

    @contextmanager
    def attempt(self) -> Iterator[None]:
        """Around one call of the part: what it raises is the part's failure.

        Raises:
            PartDown: the part is not to be asked now.
        """
        ticket = self._breaker.admit(monotonic())
        if ticket is None:
            raise PartDown(f"{self._name} is down")
        try:
            with waiting():
                yield
        except Exception as error:
            FAILED.labels(self._name).inc()
            self._breaker.fail(ticket, monotonic())
            self._tell(str(error) or type(error).__name__)
            raise
        except BaseException:  # the caller has gone
            self._breaker.withdraw(ticket, monotonic())
            raise
        self._breaker.succeed(ticket)
        self._tell("")

    def _tell(self, problem: str) -> None:
        """One line when the part is given up and one when it is back, not one a request."""
        state = self._breaker.state
        if state is State.OPEN and not self._down:
            log.warning("%s is left out of decisions: %s", self._name, problem)
            OPENED.labels(self._name).inc()
        elif state is State.CLOSED and self._down:
            log.warning("%s takes part in decisions again", self._name)
        self._down = state is not State.CLOSED
        self._state.set(state.value)
