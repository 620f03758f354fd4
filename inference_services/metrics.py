"""What every service counts, the same on KServe's path and on ours; `docs/metrics.md` is made from this code.

KServe's own `request_*_seconds` histograms are served beside these. No label holds an id or anything else that a caller
can choose: a label's values are few and known.
"""

from __future__ import annotations

from typing import Literal, get_args

from prometheus_client import Counter, Gauge

from inference_services.batch_histogram import BatchHistogram
from inference_services.request_context import Protocol
from inference_services.served import LABELS, Served

Outcome = Literal[
    "ok",
    "invalid",
    "unauthenticated",
    "not_found",
    "not_implemented",
    "shed",
    "unavailable",
    "cancelled",
    "error",
]

LATENCY_BUCKETS = (0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.5, 1.0)

# Fraud is rare: most probabilities are small, and the thresholds lie between 0.01 and 0.95.
PROBABILITY_BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)

BUNDLE = Gauge("fraud_bundle_info", "1 for the bundle that the process serves.", LABELS)
REQUESTS = Counter("fraud_requests", "Inference requests answered, by outcome.", [*LABELS, "protocol", "outcome"])
SECONDS = BatchHistogram(
    "fraud_request_seconds",
    "From an inference request's headers (its last byte, on the direct route) to its answer.",
    (*LABELS, "protocol"),
    LATENCY_BUCKETS,
)
IN_FLIGHT = Gauge("fraud_requests_in_flight", "Inference requests that wait for their answer.", LABELS)
PROBABILITY = BatchHistogram(
    "fraud_probability",
    "Calibrated probabilities answered; a transformer's are the fused ones.",
    LABELS,
    PROBABILITY_BUCKETS,
)

_OUTCOMES: dict[int, Outcome] = {
    400: "invalid",
    401: "unauthenticated",
    404: "not_found",
    429: "shed",
    501: "not_implemented",
    503: "unavailable",
}


def outcome_of(status: int, *, retry_after: bool = False) -> Outcome:
    """What an HTTP status says of a request; a 503 that says when to come again was shed."""
    if status < 400:
        return "ok"
    if status == 503 and retry_after:
        return "shed"
    return _OUTCOMES.get(status, "invalid" if status < 500 else "error")


class CallMetrics:
    """Counts the inference requests of one process."""

    def __init__(self, served: Served) -> None:
        labels = served.labels()
        protocols = get_args(Protocol)
        # Found once: looking a series up by its labels costs more than counting.
        self._seconds = {p: SECONDS.labels(**labels, protocol=p) for p in protocols}
        self._outcomes = {
            (p, o): REQUESTS.labels(**labels, protocol=p, outcome=o) for p in protocols for o in get_args(Outcome)
        }
        self._in_flight = 0
        IN_FLIGHT.labels(**labels).set_function(lambda: self._in_flight)
        BUNDLE.labels(**labels).set(1)

    def started(self) -> None:
        """A request has come; called from the event loop only."""
        self._in_flight += 1

    def ended(self, protocol: Protocol, outcome: Outcome, seconds: float) -> None:
        """Its answer has gone."""
        self._in_flight -= 1
        self._outcomes[protocol, outcome].inc()
        self._seconds[protocol].observe_one(seconds)
