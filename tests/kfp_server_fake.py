"""A Kubeflow Pipelines API on a socket, as far as a run is submitted and watched; it runs nothing.

It answers with KFP's own models, and with the tasks that a KFP on Argo lists: for each step one of its name, a driver,
and an "executor" below it.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import kfp_server_api as api

RUN = "3f0c6a52-2b1d-4c8e-9f55-0d6f6a1f7c11"
_API = "/apis/v2beta1"


@dataclass(frozen=True)
class Scene:
    """How far the run is when it is asked for: states by step, the run's own, and what a failed step says."""

    steps: dict[str, str]
    state: str = "RUNNING"
    message: str = ""


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    body: Any


@dataclass
class Script:
    """What the server answers.

    Attributes:
        scenes: one for each look at the run; the last one stays.
        answer: (status, headers, body) that every request gets instead.
        dies_after: looks at the run after which connections are cut without an answer; None: never.
        returns_after: cut connections after which it is back.
    """

    scenes: Sequence[Scene] = (Scene({}, "SUCCEEDED"),)
    answer: tuple[int, dict[str, str], str] | None = None
    dies_after: int | None = None
    returns_after: int | None = None
    parameters: dict[str, Any] = field(default_factory=dict)


class FakeKfp:
    """The server; `with` starts and ends it.

    Attributes:
        requests: what it was asked, in order.
        script: what it answers; may be changed while it runs.
    """

    def __init__(self, script: Script) -> None:
        self.script, self.requests, self.looks, self.cut = script, list[Request](), 0, 0
        self._experiments: list[Any] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> FakeKfp:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def submitted(self) -> Any:
        return next(r.body for r in self.requests if (r.method, r.path) == ("POST", "/runs"))

    def dead(self) -> bool:
        """Whether it cuts the connection now."""
        if self.script.dies_after is None or self.looks < self.script.dies_after:
            return False
        self.cut += 1
        return self.script.returns_after is None or self.cut <= self.script.returns_after

    def answer(self, asked: Request) -> Any:
        """KFP's model for a request; None where there is no such thing."""
        if asked.path == "/experiments" and asked.method == "GET":
            return api.V2beta1ListExperimentsResponse(experiments=self._experiments)
        if asked.path == "/experiments":
            new = api.V2beta1Experiment(experiment_id="e-1", display_name=asked.body["display_name"])
            self._experiments.append(new)
            return new
        if asked.path == "/runs":
            self.script.parameters = asked.body["runtime_config"]["parameters"]
            return api.V2beta1Run(run_id=RUN, state="PENDING")
        if asked.path == f"/runs/{RUN}":
            scene = self.script.scenes[min(self.looks, len(self.script.scenes) - 1)]
            self.looks += 1
            return _run(scene, self.script.parameters)
        return None


def _run(scene: Scene, parameters: dict[str, Any]) -> Any:
    tasks = [api.V2beta1PipelineTaskDetail(task_id="root", display_name="root", state=scene.state)]
    for name, state in scene.steps.items():
        tasks += _tasks(name, state, scene.message)
    return api.V2beta1Run(
        run_id=RUN,
        state=scene.state,
        runtime_config=api.V2beta1RuntimeConfig(parameters=parameters),
        run_details=api.V2beta1RunDetails(task_details=tasks),
    )


def _tasks(name: str, state: str, message: str) -> list[Any]:
    detail, child = api.V2beta1PipelineTaskDetail, api.PipelineTaskDetailChildTask
    if name.endswith("-driver"):
        return [
            detail(task_id=name, display_name=name, state=state, error=api.GoogleRpcStatus(code=2, message=message))
        ]
    failed = state == "FAILED"
    inner = api.GoogleRpcStatus(code=2, message=message) if failed else None
    outer = api.GoogleRpcStatus(code=2, message=f"child '{name}-2' failed") if failed else None
    return [
        detail(task_id=f"{name}-0", display_name=f"{name}-driver", state="SUCCEEDED"),
        detail(
            task_id=f"{name}-1", display_name=name, state=state, error=outer, child_tasks=[child(pod_name=f"{name}-2")]
        ),
        detail(task_id=f"{name}-2", pod_name=f"{name}-2", display_name="executor", state=state, error=inner),
    ]


def _handler(fake: FakeKfp) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._serve()

        def do_POST(self) -> None:
            self._serve()

        def log_message(self, *_: object) -> None:
            pass

        def _serve(self) -> None:
            url = urlsplit(self.path)
            length = int(self.headers.get("content-length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            path = re.sub(f"^{_API}", "", url.path)
            asked = Request(
                self.command, path, parse_qs(url.query), {k.lower(): v for k, v in self.headers.items()}, body
            )
            fake.requests.append(asked)
            if fake.dead():
                self.connection.close()
                return
            if fake.script.answer is not None:
                self._send(*fake.script.answer)
                return
            found = fake.answer(asked)
            if found is None:
                self._send(404, {}, json.dumps({"code": 5, "message": f"{path.removeprefix('/runs/')} not found"}))
            else:
                self._send(200, {}, json.dumps(api.ApiClient().sanitize_for_serialization(found)))

        def _send(self, status: int, headers: dict[str, str], body: str) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(body.encode())))
            self.end_headers()
            self.wfile.write(body.encode())

    return Handler
