"""`python -m inference_services.decision_log`: writes the decision log until told to stop."""

from __future__ import annotations

import asyncio
import signal

from prometheus_client import start_http_server

from feature_repo.online.store import client_at
from inference_services.decision_log.settings import DecisionLogSettings
from inference_services.decision_log.sink import Sink
from inference_services.logs import configure_logging


async def _main(settings: DecisionLogSettings) -> None:
    if settings.metrics_port:
        start_http_server(settings.metrics_port)
    client = client_at(settings.redis_url, settings.redis_type)
    sink = Sink(client, settings.folder, flush_s=settings.flush_s, keep=settings.keep)
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, sink.stop)
    try:
        await sink.run()
    finally:
        await client.aclose()


if __name__ == "__main__":
    configure_logging()
    asyncio.run(_main(DecisionLogSettings()))
