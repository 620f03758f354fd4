"""What an operator sees of the process beside the events themselves (`streaming/publisher.py` counts those)."""

from __future__ import annotations

from prometheus_client import Counter, Histogram

REQUESTS = Counter("fraud_ingestion_requests", "Requests to publish events, by the HTTP status answered.", ["status"])
SECONDS = Histogram(
    "fraud_ingestion_request_seconds", "From a request's headers to its answer, the reading of its body included."
)
