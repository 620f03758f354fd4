"""The company's decisions, as the world feels them.

A world is played without a policy, or with one that sees each batch of published events and answers. What a block
then prevents:

| blocked | what does not happen |
|---|---|
| trip_requested | everything that follows in the trip: ride, cancellation, payment, refund |
| payment_authorized | a refund of the trip |
| account_changed | the abuser, who fails the step-up check, commits no more fraud; an honest rider passes it |
| promo_redeemed, trip_completed, refund_claimed | nothing: money is held back, which no later event shows |

What has been published already (late events, or events of the same batch) cannot be undone, and the world's supply
does not feel it: a driver whose trip was blocked stays busy. Trips of the randomised holdout are never blocked.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from feature_repo.event_schemas import SCORED_EVENT_TYPES
from simulators.ride_hailing.errors import SimulationError
from simulators.ride_hailing.geography import Mask

ALLOW, REVIEW, BLOCK = "allow", "review", "block"
_AFTER_REQUEST = ("trip_cancelled", "trip_completed", "payment_authorized", "refund_claimed")
_ABUSERS = pa.schema([("rider_id", pa.string()), ("sent_at", pa.timestamp("us", "UTC"))])
_REMEMBERED_DAYS = 4  # a refund follows its trip within two days and is sent within hours


class Policy(Protocol):
    """Decides on events as they are published."""

    def decide(self, events: pa.Table) -> NDArray[np.str_]:
        """Decides on a batch.

        Args:
            events: EVENT_SCHEMA, n rows in the order in which they were sent; every event, scored or not.

        Returns:
            "allow", "review" or "block" for each row, shape [n]; ignored on rows that are not scored.
        """
        ...


class AllowAll:
    """The world without a fraud team: nothing is reviewed by choice and nothing is blocked."""

    def decide(self, events: pa.Table) -> NDArray[np.str_]:
        """Allows every event."""
        return np.full(events.num_rows, ALLOW)


def ask(policy: Policy, events: pa.Table, exempt: Mask) -> pa.Array:
    """The decisions that take effect, shape [n]: unscored events and blocked but exempt ones are allowed.

    Raises:
        SimulationError: the policy's answer has the wrong length or an unknown word.
    """
    answer = np.asarray(policy.decide(events))
    if answer.shape != (events.num_rows,):
        raise SimulationError(f"the policy answered in shape {answer.shape}: {events.num_rows} were asked for")
    if unknown := sorted(set(np.unique(answer).tolist()) - {ALLOW, REVIEW, BLOCK}):
        raise SimulationError(f"the policy decided {unknown[0]!r}: it may allow, review or block")
    scored = pc.is_in(events["event_type"], pa.array(SCORED_EVENT_TYPES)).to_numpy()
    answer = np.where(~scored | (exempt & (answer == BLOCK)), ALLOW, answer)
    return pa.array(answer.tolist(), pa.string())


class Blocked:
    """Remembers what was blocked and takes away what cannot happen any more."""

    def __init__(self) -> None:
        self._rides: dict[int, pa.Array] = {}
        self._refunds: dict[int, pa.Array] = {}
        self._abusers = _ABUSERS.empty_table()

    def remember(self, events: pa.Table, day: int) -> None:
        """Takes note of a decided batch: EVENT_SCHEMA, typology and decision, in the order in which it was sent."""
        blocked = events.filter(pc.equal(events["decision"], BLOCK))
        for memory, event_type in ((self._rides, "trip_requested"), (self._refunds, "payment_authorized")):
            trips = blocked.filter(pc.equal(blocked["event_type"], event_type))["trip_id"].combine_chunks()
            memory[day] = pa.concat_arrays([memory.get(day, trips[:0]), trips])
            memory.pop(day - _REMEMBERED_DAYS, None)
        failed = pc.and_(pc.equal(blocked["event_type"], "account_changed"), blocked["typology"].is_valid())
        self._abusers = pa.concat_tables([self._abusers, blocked.filter(failed).select(_ABUSERS.names)])

    def possible(self, events: pa.Table) -> Mask:
        """Which of n events can still happen, shape [n]."""
        after = pc.is_in(events["event_type"], pa.array(_AFTER_REQUEST))
        never = pc.and_(after, pc.is_in(events["trip_id"], _all(self._rides)))
        refund = pc.equal(events["event_type"], "refund_claimed")
        never = pc.or_(never, pc.and_(refund, pc.is_in(events["trip_id"], _all(self._refunds))))
        caught = self._abusers["sent_at"].take(pc.index_in(events["rider_id"], self._abusers["rider_id"]))
        barred = pc.and_(events["typology"].is_valid(), pc.greater(events["sent_at"], caught).fill_null(False))
        result: Mask = ~pc.or_(never, barred).to_numpy()
        return result


def _all(memory: dict[int, pa.Array]) -> pa.Array:
    return pa.concat_arrays([pa.array([], pa.string()), *memory.values()])
