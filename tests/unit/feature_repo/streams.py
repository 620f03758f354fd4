"""What the tests of the streams share."""

from __future__ import annotations

import redis.asyncio as aioredis

from feature_repo.streaming.worker import Worker


async def drain(client: aioredis.Redis) -> None:
    """Applies everything that waits in the streams."""
    worker = Worker(client, None)
    await worker.drain()
    await worker.close()
