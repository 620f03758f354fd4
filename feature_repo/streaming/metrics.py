"""What an operator sees of the worker: Prometheus metrics, none of them labelled with an id."""

from __future__ import annotations

import contextlib
import time

from prometheus_client import Counter, Gauge

APPLIED = Counter("fraud_worker_records", "Records applied to the online store.", ["partition"])
REPEATED = Counter("fraud_worker_repeated_records", "Records that were delivered again and skipped.")
DEAD = Counter("fraud_worker_dead_letters", "Stream entries that could not be used.")
LOGGED = Counter("fraud_worker_logged_events", "Events appended to the event log.")
RETRIES = Counter("fraud_worker_retries", "Steps that Redis or the disk failed, to be taken again.")
SEQUENCE = Gauge("fraud_worker_sequence", "Number of the last event applied.", ["partition"])
LAG = Gauge("fraud_feature_lag_seconds", "From an event's ingestion to its place in the features.", ["partition"])
CHECKPOINT_AGE = Gauge(
    "fraud_worker_checkpoint_age_seconds", "Since the partition was last known to be applied whole.", ["partition"]
)
PARTITIONS_OWNED = Gauge("fraud_worker_partitions", "Partitions that this worker owns.")
OVERTAKEN = Counter("fraud_worker_overtaken_writes", "States not written, because another worker had done so.")
WAITING = Gauge("fraud_worker_waiting_for_rebuild", "1 while Redis has lost the features and nothing is applied.")


def observe_progress(partition: int, last_entry: bytes | None, *, full: bool) -> None:
    """Notes that a partition was read.

    Args:
        partition: which.
        last_entry: id of the last stream entry applied, which begins with the milliseconds of its ingestion; None
            when there was none.
        full: whether more may be waiting.
    """
    now = time.time()
    if last_entry is None:
        LAG.labels(partition).set(0)
    else:
        LAG.labels(partition).set(max(0.0, now - int(last_entry.partition(b"-")[0]) / 1000))
    if not full:
        CHECKPOINT_AGE.labels(partition).set_function(lambda: time.time() - now)


def forget_progress(partition: int) -> None:
    """Notes that the partition is another worker's to tell of."""
    for gauge in (LAG, CHECKPOINT_AGE, SEQUENCE):
        with contextlib.suppress(KeyError):
            gauge.remove(partition)
