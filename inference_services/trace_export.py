"""OpenTelemetry's SDK, set up to send spans without ever holding up a request or the end of the process.

Spans wait in a queue of bounded size (OTEL_BSP_*) and a thread sends them; when the collector is away they are dropped.
"""

from __future__ import annotations

import atexit
import logging
import math
import os
import time
from collections.abc import Callable
from threading import Thread

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.environment_variables import OTEL_SERVICE_NAME
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Tracer

from inference_services.errors import BadSettings
from inference_services.served import Served

_PROTOCOL = "http/protobuf"
_FLUSH_S = 2.0


def exporting_tracer(served: Served) -> Tracer:
    """A tracer whose spans go where OTEL_EXPORTER_OTLP_* says; what is sampled is up to OTEL_TRACES_SAMPLER.

    Raises:
        BadSettings: a variable of OpenTelemetry's cannot be used.
    """
    for variable in ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"):
        if os.environ.get(variable, _PROTOCOL) != _PROTOCOL:
            raise BadSettings(f"environment variable {variable}: only {_PROTOCOL} is spoken")
    known = {
        "service.name": os.environ.get(OTEL_SERVICE_NAME) or f"{served.model}-{served.service.replace('_', '-')}",
        "service.version": served.model_version,
        "fraud.revision": served.revision,
    }
    try:
        provider = TracerProvider(resource=Resource.create(known), shutdown_on_exit=False)
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    except Exception as error:  # the SDK raises ValueError, TypeError and those of requests
        raise BadSettings(f"tracing cannot start, look at the OTEL_* variables: {error}") from None
    logging.getLogger(OTLPSpanExporter.__module__).addFilter(Seldom())
    atexit.register(_flush, provider)
    return provider.get_tracer("inference_services")


class Seldom(logging.Filter):
    """Lets each kind of message pass once in a while: a collector that is away is told of at every try.

    Args:
        pause_s: between two of a kind.
        clock: seconds, rising.
    """

    def __init__(self, pause_s: float = 600.0, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._pause_s = pause_s
        self._clock = clock
        self._told: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is written."""
        now = self._clock()
        if now - self._told.get(str(record.msg), -math.inf) < self._pause_s:
            return False
        self._told[str(record.msg)] = now
        return True


def _flush(provider: TracerProvider) -> None:
    # The SDK would wait for half a minute when the collector is away.
    last = Thread(target=provider.shutdown, daemon=True)
    last.start()
    last.join(_FLUSH_S)
