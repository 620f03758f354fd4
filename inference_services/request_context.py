"""Who is asking: the id and the trace of the request that the running task serves.

The id is the V2 `id` of the request, else its `x-request-id`, else a new one. Logs, spans, the decision record and the
calls to the predictors read it from here; it never becomes a metric's label.
"""

from __future__ import annotations

import os
import re
from contextvars import ContextVar
from dataclasses import dataclass
from itertools import count
from typing import Literal

REQUEST_ID = "x-request-id"
TRACEPARENT = "traceparent"
TRACESTATE = "tracestate"

Protocol = Literal["rest", "grpc"]

# What a header can carry; any other id is echoed in the answer's body alone.
_HEADER_SAFE = re.compile(r"[!-~]{1,128}")
_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(?:-[!-~]*)?")
_TRACESTATE = re.compile(r"[ -~]{0,512}")


@dataclass(slots=True)
class RequestContext:
    """One request, from its first header to its answer.

    Attributes:
        protocol: how it came.
        request_id: what it is called, in the logs and to the predictors.
        traceparent: the caller's W3C trace context as it came, empty without one.
        tracestate: what belongs to it, empty without.
    """

    protocol: Protocol
    request_id: str
    traceparent: str = ""
    tracestate: str = ""

    @classmethod
    def begin(
        cls, protocol: Protocol, request_id: str = "", traceparent: str = "", tracestate: str = ""
    ) -> RequestContext:
        """The context of a request with these headers; one that is not well formed counts as absent."""
        if not (request_id and _HEADER_SAFE.fullmatch(request_id)):
            request_id = new_id()
        if not (traceparent and _TRACEPARENT.fullmatch(traceparent)):
            traceparent = tracestate = ""
        if not _TRACESTATE.fullmatch(tracestate):
            tracestate = ""
        return cls(protocol, request_id, traceparent, tracestate)

    @property
    def trace_id(self) -> str:
        """The trace that the caller is in, 32 hex digits, empty without one."""
        return self.traceparent[3:35]


# No two processes share the first, and no two requests of a process the second.
_PROCESS, _IDS = os.urandom(8).hex(), count()
_CURRENT: ContextVar[RequestContext | None] = ContextVar("fraud_request", default=None)


class serving:  # noqa: N801 - used as a function
    """Makes it the context of what runs inside, tasks and threads that start there included."""

    __slots__ = ("_context", "_token")

    def __init__(self, context: RequestContext) -> None:
        self._context = context

    def __enter__(self) -> RequestContext:
        self._token = _CURRENT.set(self._context)
        return self._context

    def __exit__(self, *_: object) -> None:
        _CURRENT.reset(self._token)


def current() -> RequestContext | None:
    """The request that is being served, None outside of one."""
    return _CURRENT.get()


def request_id() -> str:
    """The id of the request that is being served, empty outside of one."""
    context = _CURRENT.get()
    return context.request_id if context is not None else ""


def adopt(v2_id: str | None) -> str:
    """Gives the request the `id` of its V2 body, if there is one; returns the `id` to answer with."""
    context = _CURRENT.get()
    if not v2_id:
        return context.request_id if context is not None else new_id()
    if context is not None and _HEADER_SAFE.fullmatch(v2_id):
        context.request_id = v2_id
    return v2_id


def new_id() -> str:
    """An id that nobody has used, 32 hex digits."""
    return f"{_PROCESS}{next(_IDS):016x}"
