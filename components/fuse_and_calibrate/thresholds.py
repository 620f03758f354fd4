"""When to review and when to block: the least expected cost that the reviewers can carry."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from inference_services.policy_settings import ThresholdSettings
from inference_services.transformer.fusion import Thresholds, decide

Vector = NDArray[np.float64]
Names = NDArray[np.object_]


def thresholds_at(review_price: float, missed: float, wrong_block: float) -> Thresholds:
    """The cheapest decision by probability p: allow costs p * missed, block (1 - p) * wrong_block, review its price.

    Review is cheapest from price / missed up to 1 - price / wrong_block. Where that band is empty nothing is reviewed
    and an event is blocked from wrong_block / (wrong_block + missed) on.
    """
    review, block = review_price / missed, 1 - review_price / wrong_block
    if review < block:
        return Thresholds(review, block)
    even = wrong_block / (wrong_block + missed)
    return Thresholds(even, even)


def all_thresholds(policy: ThresholdSettings, review_price: float) -> dict[str, Thresholds]:
    """Thresholds by event type at one price of a review, toman."""
    return {
        name: thresholds_at(review_price, policy.missed_fraud_cost[name], policy.false_block_cost[name])
        for name in policy.missed_fraud_cost
    }


def cheapest_thresholds(
    policy: ThresholdSettings, event_type: Names, probability: Vector, days: int
) -> dict[str, Thresholds]:
    """Thresholds under which the expected number of reviews a day stays within the reviewers' capacity.

    When the capacity is short, a review's price rises above its cost until the queue fits (the Lagrange multiplier of
    the capacity), so that reviewers see the events, of all types, where a look saves the most.

    Args:
        policy: costs and capacity.
        event_type: event types, shape [n].
        probability: what decisions will be made on, shape [n], at native prevalence: the calibrated fraud
            probabilities, or their `alarm_score` where the policy equalises alarm rates.
        days: how many days the n events span.
    """

    def reviews_per_day(price: float) -> float:
        decisions = decide(all_thresholds(policy, price), event_type, probability)
        return float((decisions == "review").sum()) / days

    price = policy.review_cost
    if reviews_per_day(price) <= policy.review_capacity_per_day:
        return all_thresholds(policy, price)
    low, high = price, max(policy.missed_fraud_cost.values())  # at the upper price every band is empty
    for _ in range(60):
        middle = (low + high) / 2
        if reviews_per_day(middle) > policy.review_capacity_per_day:
            low = middle
        else:
            high = middle
    return all_thresholds(policy, high)


def policy_cost(policy: ThresholdSettings, decision: NDArray[Any], event_type: Names, y: Vector) -> Vector:
    """What each of n decisions cost, toman; a review is taken to find the truth."""
    missed = np.array([policy.missed_fraud_cost[name] for name in event_type])
    wrong = np.array([policy.false_block_cost[name] for name in event_type])
    cost = np.where(decision == "allow", y * missed, np.where(decision == "block", (1 - y) * wrong, policy.review_cost))
    return np.asarray(cost, np.float64)
