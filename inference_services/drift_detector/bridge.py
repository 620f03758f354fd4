"""`python -m inference_services.drift_detector.bridge`: takes decisions' features to the drift detector.

KServe's payload logger sees REST calls only and queues without bound when its sink is slow. The bridge posts the same
CloudEvents from the decision stream, which gRPC callers reach too. It holds one batch at a time, so a slow detector
leaves the rest in the stream, and it remembers its place in Redis. Decisions made without the store are left out: an
outage is not drift.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from collections.abc import Sequence
from typing import Any
from uuid import uuid4

import httpx
import orjson
import redis.asyncio as aioredis
from prometheus_client import Counter, start_http_server
from redis.exceptions import RedisClusterException, RedisError

from inference_services.calibration import NO_STORE
from inference_services.drift_detector.settings import BridgeSettings
from inference_services.errors import CorruptRecord, ServingError
from inference_services.logs import configure_logging
from inference_services.outgoing import OutgoingHeaders
from inference_services.tokens import TokenFile
from inference_services.transformer.decision_record import DecisionRecord
from inference_services.transformer.decisions import FIELD, STREAM

POSITION = "fraud:drift-bridge:position"
REQUEST_TYPE = "org.kubeflow.serving.inference.request"
_BLOCK_MS = 1000
_TIMEOUT_S = 10.0
_LONGEST_PAUSE_S = 30.0

DECISIONS = Counter(
    "fraud_drift_bridge_decisions",
    "Decisions read from the stream by what became of them: delivered, given_up, without_store, unreadable.",
    ["outcome"],
)
RETRIES = Counter("fraud_drift_bridge_retries", "Steps that Redis or the drift detector failed, to be taken again.")

log = logging.getLogger("fraud.bridge")


def v2_request(decisions: Sequence[DecisionRecord]) -> dict[str, Any]:
    """The V2 request that carries the numeric features of decisions; a null is an unknown value."""
    n = len(decisions)
    features = [record.features.by_name() for record in decisions]
    columns = {name: [f.get(name) for f in features] for name in decisions[0].features.names}
    inputs = [{"name": k, "datatype": "FP64", "shape": [n], "data": v} for k, v in columns.items()]
    return {"id": uuid4().hex, "inputs": inputs}


def _decision(entry: tuple[bytes, dict[bytes, bytes]]) -> DecisionRecord | None:
    """Reads a stream entry; None, said in the log, when it is not a decision."""
    entry_id, fields = entry
    try:
        record = DecisionRecord.from_json(fields.get(FIELD.encode(), b""))
        record.features.by_name()
    except CorruptRecord as error:
        DECISIONS.labels("unreadable").inc()
        log.warning("entry %s of %s is left out: %s", entry_id.decode(), STREAM, error)
        return None
    return record


class Bridge:
    """Reads the decision stream and posts to the drift detector until cancelled.

    Args:
        settings: where from and where to.
        http: client of the drift detector.
        client: asynchronous client of Redis that returns bytes.
        pause_s: first pause after a failure, doubled up to half a minute.
    """

    def __init__(self, settings: BridgeSettings, http: httpx.AsyncClient, client: Any, pause_s: float = 0.5) -> None:
        self._settings = settings
        self._headers = OutgoingHeaders(TokenFile(settings.token_file) if settings.token_file else None)
        self._http = http
        self._redis: Any = client
        self._pause_s = pause_s

    async def run(self) -> None:
        """Carries batches for ever; an absent Redis is waited for."""
        pause = self._pause_s
        while True:
            try:
                await self.step()
                pause = self._pause_s
            except (RedisError, RedisClusterException, OSError) as error:
                RETRIES.inc()
                log.warning("the decision stream cannot be read: %r; next try in %.1f s", error, pause)
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE_S)

    async def step(self) -> int:
        """Carries one batch.

        Returns:
            How many decisions were read.

        Raises:
            RedisError: the stream cannot be read.
        """
        position = await self._redis.get(POSITION) or b"0"
        answer = await self._redis.xread({STREAM: position}, count=self._settings.batch, block=_BLOCK_MS)
        if not answer:
            return 0
        entries = answer[0][1]
        decisions = [decision for decision in map(_decision, entries) if decision]
        complete = [decision for decision in decisions if decision.availability != NO_STORE]
        DECISIONS.labels("without_store").inc(len(decisions) - len(complete))
        if complete:
            taken = await self._post(orjson.dumps(v2_request(complete)))
            DECISIONS.labels("delivered" if taken else "given_up").inc(len(complete))
        await self._redis.set(POSITION, entries[-1][0])
        return len(entries)

    async def _post(self, content: bytes) -> bool:
        """Whether the drift detector took it."""
        headers = {
            "content-type": "application/json",
            "ce-specversion": "1.0",
            "ce-id": uuid4().hex,
            "ce-source": "fraud-drift-bridge",
            "ce-type": REQUEST_TYPE,
            **self._headers(),
        }
        pause = self._pause_s
        for attempt in range(1, self._settings.attempts + 1):
            try:
                response = await self._http.post(self._settings.target_url, content=content, headers=headers)
                if response.is_success:
                    return True
                problem = f"{response.status_code} {response.text:.200}"
            except httpx.HTTPError as error:
                problem = repr(error)
            log.warning("the drift detector did not take a batch (try %d): %s", attempt, problem)
            if attempt < self._settings.attempts:
                RETRIES.inc()
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE_S)
        return False


async def _main() -> None:
    settings = BridgeSettings()
    if settings.metrics_port:
        start_http_server(settings.metrics_port)
    kind = aioredis.RedisCluster if settings.redis_type == "redis_cluster" else aioredis.Redis
    client = kind.from_url(settings.redis_url)
    async with httpx.AsyncClient(timeout=_TIMEOUT_S) as http:
        task = asyncio.ensure_future(Bridge(settings, http, client).run())
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, task.cancel)
        await asyncio.wait([task])
    await client.aclose()


if __name__ == "__main__":
    configure_logging()
    try:
        asyncio.run(_main())
    except ServingError as problem:
        log.error("%s", problem)
        sys.exit(1)
