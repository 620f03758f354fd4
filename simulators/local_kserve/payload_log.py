"""KServe's payload logger: the requests and answers of a component as CloudEvents, posted to a sink.

As KServe's agent does it: REST only, every request and only answers of 200, the attributes in headers (CloudEvents'
binary mode), no second try. Unlike there, nothing waits for a slow sink, and nothing grows: what does not fit into the
queue is dropped and counted.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import aiohttp

log = logging.getLogger(__name__)

REQUEST = "org.kubeflow.serving.inference.request"
RESPONSE = "org.kubeflow.serving.inference.response"
_TYPES = {"all": {REQUEST, RESPONSE}, "request": {REQUEST}, "response": {RESPONSE}}
# The length of the agent's queue; the bytes are ours.
_MOST_EVENTS = 100
_MOST_BYTES = 64 * 2**20
_TIMEOUT = aiohttp.ClientTimeout(total=5)
_LAST_S = 2.0
# What stays as it is in a header: CloudEvents' HTTP binding 1.0, 3.1.3.2, encodes space, quote, percent and non-ASCII.
_PLAIN = "!#$&'()*+,-./:;<=>?@[\\]^_`{|}~"


@dataclass(frozen=True)
class Logger:
    """A component's `logger`.

    Attributes:
        url: where events go.
        mode: all, request or response.
        headers: request headers that travel in the event's `metadata`, spelt Like-This.
        attributes: the attributes that say whose events they are.
    """

    url: str
    mode: str
    headers: tuple[str, ...]
    attributes: Mapping[str, str]

    @classmethod
    def of(cls, isvc: Mapping[str, Any], component: str) -> Logger | None:
        """What the spec asks for; None when it asks for none."""
        spec, metadata = isvc["spec"][component].get("logger"), isvc["metadata"]
        if spec is None:
            return None
        whose = {
            "inferenceservicename": metadata["name"],
            "namespace": metadata["namespace"],
            "component": component,
            "endpoint": "default",
        }
        return cls(spec["url"], spec["mode"], tuple(spec.get("metadataHeaders") or ()), whose)


@dataclass
class Counts:
    """What became of the events: taken by the sink, refused or unreachable, and dropped because too many waited."""

    sent: int = 0
    lost: int = 0
    dropped: int = 0


class PayloadLog:
    """Posts a revision's events, one after the other. Lives in one event loop.

    Args:
        logger: what is logged, and where to.
        url: where the sink really is on this machine.
        source: the revision's name.
        session: posts them.
        counts: is counted in.
    """

    def __init__(self, logger: Logger, url: str, source: str, session: aiohttp.ClientSession, counts: Counts) -> None:
        self._logger, self._url, self._source, self._session = logger, url, source, session
        self._counts = counts
        self._queue: asyncio.Queue[tuple[dict[str, str], bytes]] = asyncio.Queue(_MOST_EVENTS)
        self._bytes = 0
        self._task = asyncio.create_task(self._post_all())

    def exchange(self, headers: Mapping[str, str]) -> Exchange:
        """Begin to log one request."""
        return Exchange(self, headers)

    def add(self, kind: str, headers: Mapping[str, str], event_id: str, body: bytes) -> None:
        """Queue an event of a type if that is logged; returns at once."""
        if kind not in _TYPES[self._logger.mode]:
            return
        if self._queue.full() or self._bytes + len(body) > _MOST_BYTES:
            self._counts.dropped += 1
            return
        self._bytes += len(body)
        self._queue.put_nowait((self._headers(kind, headers, event_id), body))

    def _headers(self, kind: str, headers: Mapping[str, str], event_id: str) -> dict[str, str]:
        now = datetime.now(UTC).isoformat().replace("+00:00", "Z")
        # The agent compares names as Go spells them: another spelling finds nothing.
        chosen = {name: [headers[name]] for name in self._logger.headers if name in headers and name == name.title()}
        attributes = {
            "specversion": "1.0",
            "id": event_id,
            "type": kind,
            "source": self._source,
            "time": now,
            "recordedtime": now,
            "metadata": json.dumps(chosen),
            **self._logger.attributes,
        }
        return {
            "Content-Type": headers.get("Content-Type", ""),
            **{f"ce-{name}": quote(value, safe=_PLAIN) for name, value in attributes.items()},
        }

    async def _post_all(self) -> None:
        while True:
            headers, body = await self._queue.get()
            try:
                async with self._session.post(self._url, data=body, headers=headers, timeout=_TIMEOUT) as answer:
                    problem = "" if answer.ok else f"{answer.status} {(await answer.text())[:200]}"
            except (aiohttp.ClientError, TimeoutError) as error:
                problem = repr(error)
            if problem:
                self._counts.lost += 1
                log.warning("%s: an event was lost: %s", self._source, problem)
            else:
                self._counts.sent += 1
            self._bytes -= len(body)
            self._queue.task_done()

    async def close(self) -> None:
        """Post what waits, for a moment at most."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._queue.join(), _LAST_S)
        self._counts.lost += self._queue.qsize()
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


class Exchange:
    """One request and its answer, under one id."""

    def __init__(self, payload_log: PayloadLog, headers: Mapping[str, str]) -> None:
        self._log, self._headers = payload_log, headers
        self._id = headers.get("ce-id") or str(uuid4())

    def request(self, body: bytes) -> None:
        """What was asked."""
        self._log.add(REQUEST, self._headers, self._id, body)

    def answer(self, status: int, body: bytes) -> None:
        """What was answered; only a 200 is logged, under the request's content type, as the agent does."""
        if status == 200:
            self._log.add(RESPONSE, self._headers, self._id, body)
