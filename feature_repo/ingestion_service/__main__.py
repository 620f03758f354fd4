"""`python -m feature_repo.ingestion_service`: takes events over HTTP until told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal

import uvicorn

from feature_repo.ingestion_service.app import Ingestion
from feature_repo.ingestion_service.settings import IngestionSettings
from feature_repo.online.store import client_at

logger = logging.getLogger(__name__)


async def _serve(settings: IngestionSettings) -> None:
    redis = client_at(settings.redis_url, settings.redis_type)
    ingestion = Ingestion(redis, settings)
    server = uvicorn.Server(
        uvicorn.Config(
            ingestion.app(),
            host=settings.host,
            port=settings.port,
            lifespan="off",
            access_log=False,
            log_config=None,
            server_header=False,
            timeout_graceful_shutdown=settings.grace_s,
        )
    )
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    # uvicorn would close its port at the signal, while producers still come.
    server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign, assignment]
    serving = asyncio.create_task(server.serve())
    ending = asyncio.create_task(_end(stopping, ingestion, server, settings.drain_s))
    try:
        await serving
    finally:
        ending.cancel()
        await redis.aclose()


async def _end(stopping: asyncio.Event, ingestion: Ingestion, server: uvicorn.Server, drain_s: float) -> None:
    """At the signal: not ready, then closed to new requests; uvicorn ends those that it has."""
    await stopping.wait()
    ingestion.draining = True
    logger.info("stopping: not ready, and answering for %g s more", drain_s)
    await asyncio.sleep(drain_s)
    server.should_exit = True


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    asyncio.run(_serve(IngestionSettings()))
