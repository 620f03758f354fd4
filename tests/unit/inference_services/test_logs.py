"""Log lines: JSON, with the request they belong to, once per error, and nobody's data."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from inference_services.logs import JsonLines, OncePerError, blotted
from inference_services.request_context import RequestContext, adopt, serving
from inference_services.served import Served

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACEPARENT = f"00-{TRACE}-00f067aa0ba902b7-01"


class CallersMistake(Exception):
    pass


class Written:
    def __init__(self) -> None:
        self.stream = io.StringIO()
        self.formatter = JsonLines()
        handler = logging.StreamHandler(self.stream)
        handler.setFormatter(self.formatter)
        handler.addFilter(OncePerError((CallersMistake,)))
        self.logger = logging.Logger("test")
        self.logger.addHandler(handler)

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.stream.getvalue().splitlines()]


@pytest.fixture
def written() -> Iterator[Written]:
    return Written()


def test_a_line_names_what_is_served_and_the_request(written: Written):
    written.formatter.served = Served("transformer", "fraud-detector", "3-abc", "fraud-detector-00007")
    with serving(RequestContext.begin("rest", "from-the-header", TRACEPARENT)):
        adopt("from-the-body")
        written.logger.warning("the %s is away", "store")
    (line,) = written.lines()
    assert line.pop("time").endswith("+00:00")
    assert line == {
        "level": "WARNING",
        "message": "the store is away",
        "request_id": "from-the-body",
        "trace_id": TRACE,
        "service": "transformer",
        "model": "fraud-detector",
        "model_version": "3-abc",
        "revision": "fraud-detector-00007",
    }


def test_outside_of_a_request_nothing_is_made_up(written: Written):
    written.logger.warning("started\nwith two lines")
    (line,) = written.lines()
    assert sorted(line) == ["level", "message", "time"]


def test_an_error_is_written_once_and_a_callers_mistake_never(written: Written):
    try:
        raise RuntimeError("broken")
    except RuntimeError as error:
        for _ in range(3):
            written.logger.exception("%s in a layer", error)
    try:
        raise CallersMistake
    except CallersMistake:
        written.logger.exception("refused")
    (line,) = written.lines()
    assert line["error"] == "RuntimeError: broken"
    assert "test_logs.py" in line["traceback"]


@pytest.mark.parametrize(
    "personal",
    [
        "r1-00000000000000aa",
        "d255-0123456789abcdef",
        "+989121234567",
        "09121234567",
        "+98 912 123 4567",
        "۰۹۱۲۱۲۳۴۵۶۷",
        "6037-9912-3456-7890",
        "somebody@example.com",
        "redis://user:hunter2@",
    ],
)
def test_what_names_or_betrays_anybody_is_blotted_out(personal: str, written: Written):
    try:
        raise ValueError(f"cannot use {personal!r}")
    except ValueError:
        written.logger.exception("found %s", personal)
    secret = personal.removeprefix("redis:")
    assert secret not in json.dumps(written.lines(), ensure_ascii=False)
    assert "<" in written.lines()[0]["message"]


@pytest.mark.parametrize(
    "harmless", ["port 8080", "0-3e713bcf47ed", "2026-11-28", "127.0.0.1:65535", "12345678 bytes", "/mnt/bundles/x-1"]
)
def test_what_operators_need_stays(harmless: str):
    assert blotted(harmless) == harmless


@pytest.mark.parametrize("made", ["", "has space", "x" * 129, "line\nbreak", "شناسه"])
def test_an_id_that_no_header_can_carry_is_replaced(made: str):
    assert len(RequestContext.begin("rest", made).request_id) == 32


@pytest.mark.parametrize(
    "traceparent",
    ["", "x", f"ff-{TRACE}-00f067aa0ba902b7-01", f"00-{'0' * 32}-00f067aa0ba902b7-01", f"00-{TRACE}-{'0' * 16}-01"],
)
def test_a_malformed_trace_context_counts_as_absent(traceparent: str):
    context = RequestContext.begin("grpc", "a", traceparent, "vendor=1")
    assert (context.traceparent, context.tracestate, context.trace_id) == ("", "", "")
