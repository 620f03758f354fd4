"""What ids, counts, tokens and traces cost around a request, and scores counted by the batch against one by one.

Reported only: no peer does the same work. The requests are those of KServe's route; the direct one calls the same
parts.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, Sampler
from opentelemetry.trace import Tracer
from prometheus_client import CollectorRegistry, Histogram

from feature_repo.tokens import LEAST_LENGTH
from inference_services import tracing
from inference_services.asgi import Application, Message, Send
from inference_services.authentication import Authentication
from inference_services.batch_histogram import BatchHistogram
from inference_services.metrics import PROBABILITY_BUCKETS, CallMetrics
from inference_services.request_scope import RequestScope
from inference_services.served import Served
from inference_services.tokens import TokenFile
from pipelines.report import Row
from tests.benchmarks.rounds import compare, in_turn

# Short rounds, most of which nobody interrupts.
ROUNDS = 101
REQUESTS = 50
SPANS = 100
SERVED = Served("benchmark", "m", "0-abc", "")
TOKEN = "t" * LEAST_LENGTH
HEADERS = [(b"host", b"service"), (b"content-type", b"application/json"), (b"content-length", b"2000")]
SCOPE = {"type": "http", "method": "POST", "path": "/v2/models/m/infer"}


class _Nowhere(SpanExporter):
    """Takes spans and leaves them."""

    def export(self, spans: Any) -> SpanExportResult:
        """Does nothing."""
        del spans
        return SpanExportResult.SUCCESS


def run() -> list[Row]:
    """Microseconds, medians of interleaved rounds."""
    with tempfile.TemporaryDirectory() as folder:
        sides = dict(_sides(Path(folder)))
        timings = in_turn(ROUNDS, *sides.values())
    medians = [statistics.median(rounds) * 1e6 for rounds in timings]
    rows = [Row(name, us, "us") for name, us in zip(sides, medians, strict=True)]
    return rows + [row for n in (1, 256) for row in _counting(n)]


def _sides(folder: Path) -> Iterator[tuple[str, Callable[[], float]]]:
    tokens = folder / "tokens"
    tokens.write_text(TOKEN)
    calls = CallMetrics(SERVED)
    scope = RequestScope(_answer, calls, SERVED)
    asking = RequestScope(Authentication(_answer, TokenFile(tokens)), calls, SERVED)
    unsampled, sampled = _tracer(ALWAYS_OFF), _tracer(ALWAYS_ON)
    yield "a request with nothing around it", partial(_requests, _answer, None)
    yield "a request with id and counts, tracing off", partial(_requests, scope, None)
    yield "the same and a token", partial(_requests, asking, None)
    yield "a request with id and counts, unsampled", partial(_requests, scope, unsampled)
    yield "a request with id and counts, sampled", partial(_requests, scope, sampled)
    yield "a stage's span, tracing off", partial(_spans, None)
    yield "a stage's span, unsampled", partial(_spans, unsampled)
    yield "a stage's span, sampled", partial(_spans, sampled)


async def _answer(_scope: Message, _receive: object, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"{}"})


async def _ignore(_: Message) -> None:
    pass


def _tracer(sampler: Sampler) -> Tracer:
    provider = TracerProvider(sampler, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(_Nowhere()))
    return provider.get_tracer("benchmark")


def _requests(app: Application, tracer: Tracer | None) -> float:
    scope = {**SCOPE, "headers": [*HEADERS, (b"authorization", b"Bearer " + TOKEN.encode())]}

    async def calls() -> float:
        started = time.perf_counter()
        for _ in range(REQUESTS):
            await app(scope, _never, _ignore)
        return (time.perf_counter() - started) / REQUESTS

    tracing.use_tracer(tracer)
    try:
        return asyncio.run(calls())
    finally:
        tracing.use_tracer(None)


async def _never() -> Message:
    raise AssertionError("the body is not read")


def _spans(tracer: Tracer | None) -> float:
    tracing.use_tracer(tracer)
    try:
        if tracer is None:
            return _timed_spans()
        with tracer.start_as_current_span("request"):
            return _timed_spans()
    finally:
        tracing.use_tracer(None)


def _timed_spans() -> float:
    started = time.perf_counter()
    for _ in range(SPANS):
        with tracing.span("stage"):
            pass
    return (time.perf_counter() - started) / SPANS


def _counting(n: int) -> list[Row]:
    values = np.random.default_rng(0).beta(0.3, 3, n)
    registry = CollectorRegistry()
    batch = BatchHistogram("batch", "A batch.", [], PROBABILITY_BUCKETS, registry).labels()
    single = Histogram("single", "One by one.", buckets=PROBABILITY_BUCKETS, registry=registry)
    both = compare(partial(batch.observe, values), partial(_one_by_one, single, values), 50)
    what = f"counting {n} probabilities"
    return [Row(what, both.ours_s * 1e6, "us"), Row(f"{what}: prometheus_client / ours", both.ratio)]


def _one_by_one(histogram: Histogram, values: NDArray[np.float64]) -> None:
    for value in values.tolist():
        histogram.observe(value)
