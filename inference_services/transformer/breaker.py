"""A circuit breaker as a state machine: a part that fails again and again is not asked, then tried by one call.

Written here because none of circuitbreaker 2.1, purgatory 3.0, aiobreaker 1.2 and hyx 0.0.2 holds the half-open state
to a single trial: when a part hangs, every request of that moment would wait its deadline. They also read the clock
themselves (three of them the wall clock), and pybreaker 1.4 is asynchronous under Tornado only.
"""

from __future__ import annotations

from enum import Enum


class State(Enum):
    """Whether a part is asked; the value is what the metric shows."""

    CLOSED = 0  # every call
    HALF_OPEN = 1  # one call is under way to find out
    OPEN = 2  # no call


class Breaker:
    """Opens after failures in a row; then lets one trial through at a time, and closes when it succeeds.

    A call that ends after the state has changed says nothing about the part as it is now, and changes nothing.

    Args:
        failures: how many in a row open it.
        retry_s: how long it stays open before a trial, seconds.
    """

    def __init__(self, failures: int, retry_s: float) -> None:
        self._failures = failures
        self._retry_s = retry_s
        self._in_a_row = 0
        self._retry_at = 0.0
        self._epoch = 0
        self.state = State.CLOSED

    def admit(self, now: float) -> int | None:
        """A ticket for one call, to be handed back with its outcome; None when the part is not to be asked."""
        if self.state is State.OPEN and now >= self._retry_at:
            self._become(State.HALF_OPEN)
            return self._epoch
        return self._epoch if self.state is State.CLOSED else None

    def succeed(self, ticket: int) -> None:
        """The call was answered."""
        if ticket != self._epoch:
            return
        self._in_a_row = 0
        if self.state is State.HALF_OPEN:
            self._become(State.CLOSED)

    def fail(self, ticket: int, now: float) -> None:
        """The call was not answered, not in time, or not with something usable."""
        if ticket != self._epoch:
            return
        self._in_a_row += 1
        if self.state is State.HALF_OPEN or self._in_a_row >= self._failures:
            self._retry_at = now + self._retry_s
            self._become(State.OPEN)

    def withdraw(self, ticket: int, now: float) -> None:
        """The caller gave the call up: it has no outcome, and the next call may be the trial."""
        if ticket == self._epoch and self.state is State.HALF_OPEN:
            self._retry_at = now
            self._become(State.OPEN)

    def _become(self, state: State) -> None:
        self.state = state
        self._epoch += 1
        self._in_a_row = 0
