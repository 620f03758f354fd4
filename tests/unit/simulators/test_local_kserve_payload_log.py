"""The payload logger: what a sink is sent, what is not, and that nobody waits for it."""

from __future__ import annotations

import asyncio
import json
import urllib.error
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import Any

import numpy as np
import pytest
from cloudevents.http import from_http
from fastapi import Request

from inference_services.drift_detector.model import DriftModel
from inference_services.v2_rest import encode_request
from simulators.local_kserve import LocalKServe
from tests.local_kserve import PLACE, custom, infer, isvc, patch, until

LENGTH = "Inference-Header-Content-Length"


@dataclass
class Sink:
    """Takes events; answers once it is let."""

    events: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    may_answer: Event = field(default_factory=Event)
    url: str = ""


@pytest.fixture
def sink() -> Iterator[Sink]:
    found = Sink()
    found.may_answer.set()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            found.events.append(({k.lower(): v for k, v in self.headers.items()}, body))
            found.may_answer.wait(30)
            self.send_response(202)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever)
    thread.start()
    found.url = f"http://127.0.0.1:{server.server_port}"
    yield found
    found.may_answer.set()
    server.shutdown()
    thread.join()
    server.server_close()


def logged(local: LocalKServe, api: Any, **logger: Any) -> str:
    """The address of a service that logs."""
    predictor = {**custom(), "logger": {"mode": "all", **logger}}
    api.create_namespaced_custom_object(*PLACE, isvc("echo", predictor=predictor))
    return str(local.wait_ready("echo")["status"]["url"])


def counts(local: LocalKServe) -> dict[str, int]:
    return local.payload_log()["echo-predictor-00001"]


def test_a_request_and_its_answer_are_sent_as_kserve_sends_them(local: LocalKServe, api: Any, sink: Sink) -> None:
    url = logged(local, api, url=sink.url)
    answer = infer(url, b'{"a": 1}', {"Content-Type": "application/json"})
    with pytest.raises(urllib.error.HTTPError, match="400"):
        infer(url, b"refuse", {"ce-id": "mine"})
    until(lambda: counts(local)["sent"] == 3)

    events = [from_http(headers, body, data_unmarshaller=bytes) for headers, body in sink.events]
    kinds = [event["type"].removeprefix("org.kubeflow.serving.inference.") for event in events]
    assert kinds == ["request", "response", "request"]
    assert events[0]["id"] == events[1]["id"]
    assert events[2]["id"] == "mine"
    assert events[0].get_data() == b'{"a": 1}'
    assert json.loads(events[1].get_data())["pid"] == answer["pid"]
    whose = ("inferenceservicename", "namespace", "component", "endpoint", "source")
    assert [events[0][name] for name in whose] == ["echo", "fraud", "predictor", "default", "echo-predictor-00001"]
    assert sink.events[0][0]["content-type"] == "application/json"
    assert counts(local) == {"sent": 3, "lost": 0, "dropped": 0}


@pytest.mark.parametrize("mode", ["request", "response"])
def test_the_mode_says_what_is_sent(mode: str, local: LocalKServe, api: Any, sink: Sink) -> None:
    infer(logged(local, api, url=sink.url, mode=mode))
    until(lambda: counts(local)["sent"])
    assert [headers["ce-type"].rpartition(".")[2] for headers, _ in sink.events] == [mode]


def test_a_sink_that_does_not_answer_holds_nobody_up_and_what_waits_is_bounded(
    local: LocalKServe, api: Any, sink: Sink
) -> None:
    sink.may_answer.clear()
    url = logged(local, api, url=sink.url, mode="request")
    for _ in range(130):
        infer(url)
    # One is being posted, a hundred wait.
    assert counts(local)["sent"] + counts(local)["lost"] == 0
    assert counts(local)["dropped"] == 29
    sink.may_answer.set()
    until(lambda: counts(local)["sent"] == 101)


def test_a_sink_in_the_namespace_is_found_and_an_absent_one_is_counted(local: LocalKServe, api: Any) -> None:
    url = logged(local, api, url="http://sink-predictor.fraud.svc.cluster.local", mode="request")
    infer(url)
    until(lambda: counts(local)["lost"] == 1)
    api.create_namespaced_custom_object(*PLACE, isvc("sink"))
    local.wait_ready("sink")
    infer(url)
    until(lambda: counts(local)["sent"] == 1)
    assert local.requests()["sink-predictor-00001"] == 1


def test_a_revision_that_traffic_goes_back_to_logs_again(local: LocalKServe, api: Any, sink: Sink) -> None:
    url = logged(local, api, url=sink.url, mode="request")
    patch(api, "echo", custom(MARK="new"))
    local.wait_ready("echo")
    until(lambda: infer(url)["revision"] == "echo-predictor-00002")
    patch(api, "echo", {"canaryTrafficPercent": 0})
    local.wait_ready("echo")
    sent = counts(local)["sent"]
    infer(url)
    until(lambda: counts(local)["sent"] == sent + 1)


class Detector:
    """Judges nothing yet: the window is larger."""

    features = ("amount", "distance_km")


async def received(model: DriftModel, headers: dict[str, str], body: bytes) -> tuple[int, Any]:
    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    scope = {"type": "http", "method": "POST", "headers": [(k.encode(), v.encode()) for k, v in headers.items()]}
    answer = await model.receive(Request(scope, receive))
    return answer.status_code, json.loads(bytes(answer.body))


def test_the_drift_detector_takes_what_the_transformer_asked_its_predictor(
    local: LocalKServe, api: Any, sink: Sink
) -> None:
    url = logged(local, api, url=sink.url, mode="request", metadataHeaders=[LENGTH])
    rows = {"amount": np.array([1.0, 2.0, np.nan]), "distance_km": np.ones(3), "other": np.zeros(3)}
    body, length = encode_request(rows, {}, ())
    infer(url, body, {"Content-Type": "application/octet-stream", LENGTH: str(length)})
    until(lambda: sink.events)
    model = DriftModel("fraud-drift", Detector(), window=500, version="1-abc")  # type: ignore[arg-type]
    assert asyncio.run(received(model, *sink.events[0])) == (202, {"rows": 3})
