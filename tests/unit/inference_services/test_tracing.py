"""Spans: none unless asked for, none of an unsampled request, and no error's message in any."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from inference_services import tracing
from inference_services.errors import BadSettings, PredictorGone
from inference_services.outgoing import OutgoingHeaders
from inference_services.request_context import RequestContext, serving
from inference_services.served import Served
from inference_services.trace_export import Seldom

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SAMPLED, UNSAMPLED = (f"00-{TRACE}-00f067aa0ba902b7-{flags}" for flags in ("01", "00"))
SERVED = Served("transformer", "fraud-detector", "3-abc", "")


@pytest.fixture
def exported() -> Iterator[InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracing.use_tracer(provider.get_tracer("test"))
    yield exporter
    tracing.use_tracer(None)


class Client:
    model = "fraud-gnn"

    @tracing.client_call
    async def infer(self, *, fail: bool = False) -> dict[str, str]:
        if fail:
            raise PredictorGone("the payload was r1-00000000000000aa")
        return OutgoingHeaders()()


def call(traceparent: str, *, fail: bool = False) -> dict[str, str]:
    context = RequestContext.begin("rest", "id-1", traceparent)
    with serving(context), tracing.request_span("POST", context, {}), tracing.span("gnn"):
        return asyncio.run(Client().infer(fail=fail))


def test_one_trace_from_the_caller_to_the_next_hop(exported: InMemorySpanExporter):
    headers = call(SAMPLED)
    client, stage, server = exported.get_finished_spans()
    assert [s.name for s in (server, stage, client)] == ["POST", "gnn", "POST fraud-gnn"]
    assert [s.kind for s in (server, stage, client)] == [SpanKind.SERVER, SpanKind.INTERNAL, SpanKind.CLIENT]
    assert f"{server.parent.span_id:016x}" == "00f067aa0ba902b7"
    assert (stage.parent.span_id, client.parent.span_id) == (server.context.span_id, stage.context.span_id)
    assert headers == {"traceparent": f"00-{TRACE}-{client.context.span_id:016x}-01", "x-request-id": "id-1"}


def test_an_unsampled_request_makes_no_spans_and_stays_unsampled(exported: InMemorySpanExporter):
    headers = call(UNSAMPLED)
    assert exported.get_finished_spans() == ()
    assert headers["traceparent"].startswith(f"00-{TRACE}-")
    assert headers["traceparent"].endswith("-00")


def test_an_error_is_named_by_its_class_alone(exported: InMemorySpanExporter):
    with pytest.raises(PredictorGone):
        call(SAMPLED, fail=True)
    spans = exported.get_finished_spans()
    assert {(s.status.status_code, s.status.description) for s in spans} == {(StatusCode.ERROR, "PredictorGone")}
    assert all(not s.events for s in spans)
    assert not any("r1-" in s.to_json() for s in spans)


def test_without_tracing_the_callers_trace_goes_on_as_it_came():
    assert call(SAMPLED) == {"traceparent": SAMPLED, "x-request-id": "id-1"}
    assert call("") == {"x-request-id": "id-1"}


def test_outside_of_a_request_nothing_is_recorded(exported: InMemorySpanExporter):
    with tracing.span("store"):
        assert not tracing.recording()
    assert exported.get_finished_spans() == ()


@pytest.mark.parametrize(
    "variables", [{}, {"OTEL_SDK_DISABLED": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}]
)
def test_it_is_off_unless_the_environment_names_a_collector(variables: dict[str, str], monkeypatch: pytest.MonkeyPatch):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    tracing.start_tracing(SERVED)
    assert call(SAMPLED)["traceparent"] == SAMPLED


def test_another_protocol_than_http_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
    with pytest.raises(BadSettings, match="OTEL_EXPORTER_OTLP_PROTOCOL: only http/protobuf"):
        tracing.start_tracing(SERVED)


def test_a_collector_that_is_away_is_told_of_once_in_a_while():
    now = 0.0
    seldom = Seldom(pause_s=60, clock=lambda: now)

    def passes(message: str, *args: object) -> bool:
        return bool(seldom.filter(logging.LogRecord("otlp", logging.WARNING, "", 0, message, args, None)))

    assert [passes("retrying in %.2fs", 1.0), passes("retrying in %.2fs", 2.0), passes("gone")] == [True, False, True]
    now = 60.0
    assert passes("retrying in %.2fs", 4.0)
