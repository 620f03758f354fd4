"""The Redis keys that ingestion and the worker share.

They carry one hash tag, so that on a Redis Cluster they lie in one slot and the publishing script may touch them all.
The state of entities carries none, and spreads over the nodes.
"""

from __future__ import annotations

PARTITIONS = 4
SEQUENCE_KEY = "{fraud}:stream_seq"
DEAD_LETTERS = "{fraud}:dead_letters"
LOG_STREAM = "{fraud}:event_log"
PARTITION_PREFIX = "{fraud}:records:"
SEEN_PREFIX = "{fraud}:seen:"
# There while the store holds the state of everything that was ever applied; gone with it when Redis loses its data.
COMPLETE_KEY = "{fraud}:complete"
# The workers that live, by when they are given up unless they are heard of.
WORKERS = "{fraud}:workers"


def partition_stream(partition: int) -> str:
    """The stream of one partition."""
    return f"{PARTITION_PREFIX}{partition}"


def checkpoint_key(stream: str) -> str:
    """Where a worker keeps the last entry of `stream` that it finished."""
    return f"{{fraud}}:checkpoint:{stream}"


def lease_key(stream: str) -> str:
    """Which worker owns `stream`."""
    return f"{{fraud}}:lease:{stream}"
