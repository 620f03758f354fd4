"""What decisions cost under the policy, and what an oracle would have saved.

Everything is in toman a day. A review finds the truth and costs its price; reviewers take a day's queue from the
highest priority down, and what exceeds `review_capacity_per_day` is allowed, unseen, because nobody had the time.

Two oracles, which know the truth and never block or review an honest event:

- the oracle: blocks each fraud and nothing else. It needs no review, so it obeys every capacity, and it saves all that
  fraud would cost. No policy can save more; `cost_saved_share` is taken of it.
- the review oracle: may stop fraud only through the reviewers. Each day it has them look at the fraud that would cost
  the most, as far as their capacity goes and as long as a look costs less than the fraud. It shows what the queue could
  save alone; a policy that blocks as well may exceed it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.evaluate.metrics import rank_within
from inference_services.policy_settings import ThresholdSettings

Vector = NDArray[np.float64]
Names = NDArray[np.object_]


@dataclass(frozen=True)
class Stakes:
    """What is at stake in each of n events.

    Attributes:
        y: 1.0 fraud, 0.0 honest, [n].
        missed: cost of allowing it if it is fraud, toman, [n].
        wrong: cost of blocking it if it is honest, toman, [n].
        day: code of its day, 0 to days - 1, [n].
        days: how many days.
        review_cost: of one review, toman.
        capacity: reviews a day.
    """

    y: Vector
    missed: Vector
    wrong: Vector
    day: NDArray[np.int64]
    days: int
    review_cost: float
    capacity: int

    @classmethod
    def of(cls, policy: ThresholdSettings, event_type: Names, y: Vector, day: NDArray[Any]) -> Stakes:
        """Looks the costs up by event type, shape [n]; `day` is any label of a day, shape [n]."""
        names, code = np.unique(event_type.astype(str), return_inverse=True)
        missed = np.array([policy.missed_fraud_cost[name] for name in names])[code]
        wrong = np.array([policy.false_block_cost[name] for name in names])[code]
        days, of_day = np.unique(day, return_inverse=True)
        return cls(y, missed, wrong, of_day, len(days), policy.review_cost, policy.review_capacity_per_day)


@dataclass(frozen=True)
class Spending:
    """What a policy's decisions came to.

    Attributes:
        cost_per_day: toman.
        saved_per_day: of what allowing everything costs, toman.
        saved_share: the same over what the oracle saves; NaN without fraud.
        saved_share_of_review_oracle: over what the review oracle saves; NaN where that is nothing.
        good_blocked_share: honest events that were blocked, of all honest ones.
        reviews_over_capacity_per_day: reviews that nobody had the time for.
    """

    cost_per_day: float
    saved_per_day: float
    saved_share: float
    saved_share_of_review_oracle: float
    good_blocked_share: float
    reviews_over_capacity_per_day: float


def within_capacity(stakes: Stakes, decision: Names, priority: Vector) -> Names:
    """Allows the reviews that exceed a day's capacity, lowest priority first; [n]."""
    queued = np.flatnonzero(decision == "review")
    over = queued[rank_within(stakes.day[queued], priority[queued]) >= stakes.capacity] if len(queued) else queued
    kept = decision.astype(object)
    kept[over] = "allow"
    return kept


def event_cost(stakes: Stakes, decision: Names) -> Vector:
    """What each of n decisions cost, toman."""
    blocked = (1 - stakes.y) * stakes.wrong
    cost = np.where(decision == "allow", stakes.y * stakes.missed, np.where(decision == "block", blocked, 0.0))
    return np.asarray(cost + (decision == "review") * stakes.review_cost, np.float64)


def allow_all_cost_per_day(stakes: Stakes) -> float:
    """What fraud costs when nothing is done, toman a day; also what the oracle saves."""
    return float(stakes.y @ stakes.missed) / stakes.days


def review_oracle_saved_per_day(stakes: Stakes) -> float:
    """What the review oracle saves, toman a day."""
    worth = np.flatnonzero((stakes.y == 1) & (stakes.missed > stakes.review_cost))
    if not len(worth):
        return 0.0
    seen = worth[rank_within(stakes.day[worth], stakes.missed[worth]) < stakes.capacity]
    return float((stakes.missed[seen] - stakes.review_cost).sum()) / stakes.days


def spend(stakes: Stakes, decision: Names, priority: Vector) -> Spending:
    """Adds up decisions, with the reviewers' capacity enforced day by day.

    Args:
        stakes: of the n events.
        decision: "allow", "review" or "block", [n].
        priority: by which the reviewers take a day's queue, highest first, [n]; for a model its probability.
    """
    kept = within_capacity(stakes, decision, priority)
    cost = float(event_cost(stakes, kept).sum()) / stakes.days
    nothing = allow_all_cost_per_day(stakes)
    by_review = review_oracle_saved_per_day(stakes)
    saved = nothing - cost
    honest = stakes.y == 0
    return Spending(
        cost_per_day=cost,
        saved_per_day=saved,
        saved_share=saved / nothing if nothing > 0 else float("nan"),
        saved_share_of_review_oracle=saved / by_review if by_review > 0 else float("nan"),
        good_blocked_share=float((decision[honest] == "block").mean()) if honest.any() else float("nan"),
        reviews_over_capacity_per_day=float((decision != kept).sum()) / stakes.days,
    )


def cost_curve(stakes: Stakes, probability: Vector, capacities: Sequence[int]) -> Vector:
    """Cost a day of the cheapest decisions by probability at each review capacity, shape [len(capacities)].

    A review of an event with probability p is worth min(p * missed, (1 - p) * wrong) - review_cost: what the better of
    allowing and blocking it would be expected to lose. Each day the capacity goes to the events where that is highest,
    as far as it is above zero; the others are allowed or blocked, whichever is expected to cost less.

    Args:
        stakes: of the n events; their own capacity is not used.
        probability: calibrated, at native prevalence, [n].
        capacities: reviews a day.
    """
    allow, block = probability * stakes.missed, (1 - probability) * stakes.wrong
    worth = np.minimum(allow, block) - stakes.review_cost
    other = np.where(block < allow, (1 - stakes.y) * stakes.wrong, stakes.y * stakes.missed)
    useful = np.flatnonzero(worth > 0)
    gain = np.zeros(len(useful)) + other[useful] - stakes.review_cost
    rank = rank_within(stakes.day[useful], worth[useful]) if len(useful) else useful
    gained = np.array([gain[rank < capacity].sum() for capacity in capacities])
    return np.asarray((other.sum() - gained) / stakes.days, np.float64)
