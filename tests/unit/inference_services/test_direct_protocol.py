"""Requests on the wire that go the direct way, and those that must not."""

from __future__ import annotations

import asyncio
import gc
import weakref
from typing import Any

import orjson
import pytest

from inference_services.errors import InvalidRequest
from inference_services.protocol import MAX_BODY_BYTES, BodyCheck
from inference_services.request_context import request_id
from tests.unit.inference_services.wire_bench import BODY, Bench, Echo, Slow, Wire, app, content, request


async def test_an_answer_is_one_write() -> None:
    bench = Bench(Echo(), app)
    written = await bench.send(request())
    assert len(written) == 1
    head, _, body = written[0].partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    assert lines[0] == b"HTTP/1.1 200 OK"
    assert {b"x-request-id: a", b"content-type: application/json", b"content-length: %d" % len(body)} <= set(lines)
    assert orjson.loads(body)["outputs"][0]["data"] == [1.5]
    assert not bench.wire.closed
    assert not bench.state.tasks


async def test_a_body_may_come_in_any_pieces() -> None:
    bench = Bench(Echo(), app)
    whole = request()
    for number in (1, 2):
        written = await bench.send(*(whole[at : at + 1] for at in range(len(whole))))
        assert len(written) == number
    assert bench.shared.coming == 0


@pytest.mark.parametrize("eager", [True, False])
async def test_what_waits_is_answered_later_and_the_next_on_the_connection_after_it(eager: bool) -> None:
    gate = asyncio.Event()
    bench = Bench(Echo(gate, eager=eager), app)
    assert await bench.send(request() + request(path="/other")) == []
    assert len(bench.state.tasks) == 1
    gate.set()
    first, *rest = await bench.send()
    assert b'"model_name":"echo"' in first
    assert content(b"".join(rest))[1] == "/other"
    assert not bench.state.tasks
    assert len(await bench.send(request())) == 1 + len(rest) + 1


@pytest.mark.parametrize(
    "sent",
    [
        request(path="/v2/models/other/infer"),
        request(path="/v2/models/echo/infer?x=1"),
        request(path="/v2/models/echo/versions/8/infer"),
        request(path="/v2/models/echo/versions//infer"),
        request(BODY, "/v2/models/echo/infer", "1.0"),
        request(BODY, "/v2/models/echo/infer", "1.1", "ce-type: x"),
        request(BODY, "/v2/models/echo/infer", "1.1", "content-type: application/json"),
        request().replace(b"content-length: ", b"content-length: " + b"0" * 5000),
        *(
            request(BODY, "/v2/models/echo/infer", "1.1", *lines).replace(b"content-type: application/json\r\n", b"")
            for lines in (
                ["inference-header-content-length:"],
                [f"inference-header-content-length: {'9' * 5000}"],
                ["inference-header-content-length: 1", f"inference-header-content-length: {len(BODY)}"],
            )
        ),
        request(b"not json"),
        request(b'{"inputs": []}'),
    ],
)
async def test_what_is_not_plain_or_not_valid_reaches_the_application_as_it_came(sent: bytes) -> None:
    written = await Bench(Echo(), app).send(sent)
    line, _, body = sent.partition(b" HTTP")[0], *sent.partition(b"\r\n\r\n")[1:]
    method, path, query, headers, told = content(b"".join(written))
    assert f"{method} {path}" + (f"?{query}" if query else "") == line.decode()
    assert headers == sent.partition(b"\r\n\r\n")[0].count(b"\r\n")
    assert told.encode() == body


async def test_the_version_that_is_served_may_be_named() -> None:
    (answer,) = await Bench(Echo(), app).send(request(path="/v2/models/echo/versions/7/infer"))
    assert answer.startswith(b"HTTP/1.1 200 ")


async def test_who_asks_for_a_websocket_is_answered_as_if_not() -> None:
    wanted = ("connection: upgrade", "upgrade: websocket")
    written = await Bench(Echo(), app).send(request(BODY, "/v2/models/echo/infer", "1.1", *wanted))
    assert content(b"".join(written))[:2] == ["POST", "/v2/models/echo/infer"]


async def test_a_caller_may_ask_for_the_end_of_the_connection() -> None:
    bench = Bench(Echo(), app)
    (answer,) = await bench.send(request(BODY, "/v2/models/echo/infer", "1.1", "connection: close"))
    assert answer.count(b"connection: close") == 1
    assert bench.wire.closed


async def test_a_server_that_drains_ends_its_connections() -> None:
    bench = Bench(Echo(), app)
    await bench.send(request())
    bench.state.default_headers.append((b"connection", b"close"))
    answers = await bench.send(request())
    assert [answer.count(b"connection: close") for answer in answers] == [0, 1]
    assert bench.wire.closed


@pytest.mark.parametrize("at", [-1, len(request())])
async def test_a_request_that_is_here_when_the_server_stops_is_answered(at: int) -> None:
    """Whether its body has come whole, or all but a byte."""
    gate, whole = asyncio.Event(), request()
    bench = Bench(Echo(gate), app)
    await bench.send(whole[:at])
    bench.protocol.shutdown()
    assert not bench.wire.closed
    gate.set()
    (answer,) = await bench.send(*([whole[at:]] if at < 0 else []))
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert bench.wire.closed


@pytest.mark.parametrize("at", [-1, len(request())])
async def test_nothing_is_written_to_a_caller_who_has_left(at: int) -> None:
    gate = asyncio.Event()
    bench = Bench(Echo(gate), app)
    await bench.send(request()[:at])
    bench.protocol.connection_lost(None)
    gate.set()
    assert await bench.send() == []
    assert (bench.shared.coming, bench.limit.in_flight) == (0, 0)
    assert not bench.state.tasks


async def test_a_body_is_kept_no_longer_than_its_request() -> None:
    bench = Bench(Echo(), app)
    await bench.send(request())
    assert bench.protocol.cycle.parts == []


@pytest.mark.parametrize("sent", [request()[:-1], request(), request(b"not json")])
async def test_a_connection_is_kept_no_longer_than_its_caller(sent: bytes) -> None:
    bench = Bench(Echo(), app)
    await bench.send(sent)
    left = weakref.ref(bench.protocol)
    gc.disable()
    try:
        bench.protocol.connection_lost(None)
        del bench.protocol
        assert left() is None, "it waits for the garbage collector"
    finally:
        gc.enable()


async def test_nothing_is_written_to_a_caller_who_has_left_with_another_request_behind() -> None:
    gate = asyncio.Event()
    bench = Bench(Echo(gate), app)
    await bench.send(request() + request(path="/other"))
    bench.protocol.connection_lost(None)
    tasks = list(bench.state.tasks)
    gate.set()
    await asyncio.gather(*tasks)
    assert await bench.send() == []


async def test_what_comes_behind_a_refused_request_is_not_begun_on_a_connection_that_ends() -> None:
    seen: list[Any] = []

    async def counts(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope)
        await app(scope, receive, send)

    bench = Bench(Echo(), counts, most=0)
    bench.state.default_headers.append((b"connection", b"close"))
    (answer,) = await bench.send(request() + request() + request(path="/other"))
    assert answer.startswith(b"HTTP/1.1 429 ")
    assert bench.wire.closed
    assert (bench.counted("shed"), seen) == (1, [])


async def test_what_comes_behind_a_request_is_not_taken_for_a_part_of_it() -> None:
    ids = []

    async def asks(scope: Any, receive: Any, send: Any) -> None:
        ids.append(request_id())
        await app(scope, receive, send)

    await Bench(Echo(), asks).send(request() + b"GET /metrics HTTP/1.1\r\nhost: a\r\n\r\n")
    assert ids == [""]


@pytest.mark.parametrize("body", [BODY, b"not json"])
async def test_a_request_that_is_given_up_leaves_nobody_waiting(body: bytes) -> None:
    async def waits(_: Any, __: Any, ___: Any) -> None:
        await asyncio.Event().wait()

    bench = Bench(Echo(asyncio.Event()), waits)
    assert await bench.send(request(body)) == []
    (task,) = bench.state.tasks
    task.cancel()
    answers = await bench.send()
    assert bench.wire.closed or [answer[:13] for answer in answers] == [b"HTTP/1.1 500 "]
    assert not bench.state.tasks
    assert (bench.counted("cancelled"), bench.limit.in_flight) == (1, 0)


async def test_more_than_is_taken_on_is_told_so_and_the_connection_goes_on() -> None:
    bench = Bench(Echo(), app, most=0)
    for number in (1, 2):
        answers = await bench.send(request())
        assert len(answers) == number
        assert answers[-1].startswith(b"HTTP/1.1 429 ")
        assert b"\r\nretry-after: 1\r\n" in answers[-1]
    assert not bench.wire.closed


async def test_the_loop_comes_round_between_requests_that_came_together() -> None:
    bench = Bench(Slow(), app, most=3)
    wires = [Wire() for _ in range(4)]
    for wire in wires:
        bench.connect(wire).data_received(request())
    for number in (1, 2, 3):
        await asyncio.sleep(0)
        assert [len(wire.written) for wire in wires] == [1] * number + [0] * (3 - number) + [1]


async def test_an_error_of_the_model_is_logged_once_and_answered_without_what_it_says(
    caplog: pytest.LogCaptureFixture,
) -> None:
    (answer,) = await Bench(Echo(), app).send(request(BODY.replace(b"1.5", b"null")))
    assert answer.startswith(b"HTTP/1.1 500 ")
    assert b"r1-" not in answer
    assert [record.getMessage() for record in caplog.records] == ["a request failed"]


async def test_an_application_that_fails_in_the_middle_of_its_answer_loses_the_connection() -> None:
    async def fails(_: Any, __: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"9")]})
        raise InvalidRequest("in the middle")

    bench = Bench(Echo(), fails)
    await bench.send(request(b"not json"))
    assert bench.wire.closed


async def test_a_length_with_thousands_of_zeros_is_a_length() -> None:
    sent = request().replace(b"content-length: ", b"content-length: " + b"0" * 5000)
    head, *_ = await Bench(Echo(), BodyCheck(app)).send(sent)
    assert head.startswith(b"HTTP/1.1 202 ")


async def test_bodies_that_are_too_large_alone_or_together_are_the_application_s() -> None:
    large = request(b"x" * 10).replace(b"content-length: 10", b"content-length: %d" % (MAX_BODY_BYTES + 1))
    bench = Bench(Echo(), app)
    bench.protocol.data_received(large)
    assert bench.shared.coming == 0
    others = Bench(Echo(), app)
    others.shared.coming = 8 * MAX_BODY_BYTES
    (*_, told) = await others.send(request())
    assert b"/v2/models/echo/infer" in told
