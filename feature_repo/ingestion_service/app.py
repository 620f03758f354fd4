"""The HTTP interface of ingestion.

| route | answer |
|---|---|
| `POST /v1/events` | 202 and what became of each event; 503 when Redis did not take them, or bad ones cannot be kept |
| `GET /healthz` | 200 while the process serves |
| `GET /readyz` | 200 from Redis's first answer until the process is about to end |
| `GET /metrics` | Prometheus metrics |

Nothing is acknowledged that Redis has not stored. A producer that got no answer, or 503, sends the same events again:
those that were stored are told as duplicates, with the numbers that they have.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

import orjson
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from redis.exceptions import RedisError
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from feature_repo.errors import DeadLettersFull, StoreUnavailable, UnusableRequest
from feature_repo.ingestion_service import metrics
from feature_repo.ingestion_service.bodies import JSON, answer, read_body, read_events
from feature_repo.ingestion_service.settings import IngestionSettings
from feature_repo.streaming.keys import SEQUENCE_KEY
from feature_repo.streaming.publisher import Publisher
from feature_repo.tokens import AUTHORIZATION, TokenFile

# The time that a body of the longest may take on a telephone's uplink.
_BODY_S = 10.0
_RETRY_AFTER_S = 1
# For a person to have dealt with dead letters.
_RETRY_WHEN_FULL_S = 60

logger = logging.getLogger(__name__)


class Ingestion:
    """Takes requests to publish events.

    Args:
        redis: an asynchronous Redis client.
        settings: the bounds, and the key of pseudonyms.

    Raises:
        BadSettings: the token file cannot be used.
    """

    def __init__(self, redis: Any, settings: IngestionSettings) -> None:
        self._redis = redis
        self._settings = settings
        self._publisher = Publisher(redis, settings.pseudonymiser(), settings.most_dead_letters)
        self._tokens = TokenFile(settings.token_file) if settings.token_file else None
        self._in_flight = 0
        self._redis_answered = False
        self._away = self._full = False
        self.draining = False

    def app(self) -> Starlette:
        """The ASGI application."""
        return Starlette(
            routes=[
                Route("/v1/events", self.take, methods=["POST"]),
                Route("/healthz", self.health),
                Route("/readyz", self.ready),
                Route("/metrics", self.metrics),
            ]
        )

    async def take(self, request: Request) -> Response:
        """Publishes the events of a request."""
        with metrics.SECONDS.time():
            try:
                response = await self._take(request)
            except UnusableRequest as error:
                response = _json(error.status, error=str(error))
            except ClientDisconnect:
                response = Response(status_code=400)
            except Exception:
                # The server answers it, and logs the traceback.
                metrics.REQUESTS.labels(500).inc()
                raise
        if self.draining:
            response.headers["connection"] = "close"
        metrics.REQUESTS.labels(response.status_code).inc()
        return response

    async def health(self, _: Request) -> Response:
        """Whether the process serves."""
        return _json(200, status="ok")

    async def ready(self, _: Request) -> Response:
        """Whether producers should be sent here.

        A Redis that goes away later makes no replica unready: all would be at once, and producers would meet nobody
        where they are answered 503 and when to come again.
        """
        if not self._redis_answered:
            try:
                async with asyncio.timeout(self._settings.redis_timeout_s):
                    await self._redis.exists(SEQUENCE_KEY)
                self._redis_answered = True
            except (RedisError, OSError) as error:
                logger.warning("not ready: Redis does not answer: %r", error)
        ready = self._redis_answered and not self.draining
        return _json(200 if ready else 503, ready=ready)

    async def metrics(self, _: Request) -> Response:
        """Prometheus metrics."""
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

    async def _take(self, request: Request) -> Response:
        if self._tokens is not None:
            given = request.headers.get(AUTHORIZATION)
            if given is None or not self._tokens.accepts(given.encode()):
                # RFC 6750, section 3: no error code for a request that brought nothing.
                challenge = "Bearer" if given is None else 'Bearer error="invalid_token"'
                refused = _json(401, error="a bearer token is needed: send the header `authorization: Bearer <token>`")
                refused.headers["www-authenticate"] = challenge
                return refused
        if request.headers.get("content-encoding", "identity") != "identity":
            raise UnusableRequest(415, "the body must not be compressed")
        try:
            async with asyncio.timeout(_BODY_S):
                body = await read_body(request.stream(), self._settings.most_bytes)
        except TimeoutError:
            raise UnusableRequest(408, f"the body did not come within {_BODY_S:g} s") from None
        rows = read_events(body, request.headers.get("content-type", ""), self._settings.most_events)
        if self._in_flight >= self._settings.most_in_flight:
            return _come_again("too many requests wait for Redis")
        self._in_flight += 1
        try:
            async with asyncio.timeout(self._settings.redis_timeout_s):
                published = await self._publisher.publish_rows(rows, time.time_ns() // 1000)
        except (StoreUnavailable, TimeoutError) as error:
            if not self._away:
                logger.warning("Redis does not take events, producers are told to come again: %r", error)
            self._away = True
            return _come_again("the events could not be stored: send all of them again, repeats are skipped")
        except DeadLettersFull as error:
            if not self._full:
                logger.error("bad events are sent back until `fraud features dead-letters` is seen to: %s", error)
            self._full = True
            return _come_again(str(error), _RETRY_WHEN_FULL_S)
        finally:
            self._in_flight -= 1
        if published.refused and self._full:
            logger.info("bad events are kept again")
            self._full = False
        if self._away:
            logger.info("Redis takes events again")
        self._away, self._redis_answered = False, True
        return Response(answer(rows, published), 202, media_type=JSON)


def _json(code: int, **content: object) -> Response:
    return Response(orjson.dumps(content), code, media_type=JSON)


def _come_again(message: str, after_s: int = _RETRY_AFTER_S) -> Response:
    response = _json(503, error=message)
    response.headers["retry-after"] = str(after_s)
    return response
