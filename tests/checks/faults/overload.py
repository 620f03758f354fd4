"""Three times what a service can do, open loop: what it takes on is answered in time, and the rest is told."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import orjson

from inference_services.model_names import GNN
from pipelines.report import Row
from tests.contract.fusion_bundle import NAME
from tests.load import Client, Reply, get, open_loop, percentile, post, statuses
from tests.small_stack import Service, SmallStack
from tests.valid_requests import Body, of_gnn, of_lightgbm, of_transformer

_OVERLOAD = 3.0
_WORKERS = 8
_MEASURE_S = 3.0
_LEAST_GOODPUT = 0.5
# How much sooner what is taken on is answered than by the same service that takes everything on.
_LEAST_GAIN = 2.0
_UNLIMITED = {f"FRAUD_SERVER_{name}_IN_FLIGHT": "1000000" for name in ("LEAST", "START", "MOST")}
# Some rows a request, so that the client, which shares the machine, is not what is overloaded.
_EVENTS, _ROWS = 4, 64


@dataclass(frozen=True)
class Overload:
    """What three times its capacity did to a service.

    Attributes:
        capacity: requests a second of callers who wait for each answer.
        replies: to the requests.
        sick: questions after its health that were not answered with 200.
        seconds: how long it lasted.
    """

    capacity: float
    replies: Sequence[Reply]
    sick: int
    seconds: float

    def taken_ms(self, share: float) -> float:
        """Percentile of how long what was taken on took."""
        return percentile([1000 * reply.seconds for reply in self.replies if reply.status == 200], share)

    def rows(self, name: str, late_ms: float) -> list[Row]:
        """The report's rows of a service that sheds."""
        told, p99 = statuses(self.replies), self.taken_ms(0.99)
        others = len(self.replies) - told[200] - told[429]
        share = told[200] / (self.capacity * self.seconds)
        return [
            Row(f"{name}: capacity", self.capacity, "requests/s"),
            Row(f"{name}: taken on", told[200]),
            Row(f"{name}: told to come again", told[429], "", "some", told[429] > 0),
            Row(f"{name}: anything else", others, "", "none", others == 0),
            Row(f"{name}: health not answered with 200", self.sick, "", "none", self.sick == 0),
            Row(f"{name}: median of what is taken on", self.taken_ms(0.5), "ms"),
            Row(f"{name}: p99 of what is taken on", p99, "ms", f"at most {late_ms:g} ms", p99 <= late_ms),
            Row(f"{name}: capacity still used", share, "share", f"{_LEAST_GOODPUT:.0%}", share >= _LEAST_GOODPUT),
        ]


async def overloads(stack: SmallStack, folder: Path, seconds: float, late_ms: float) -> list[Row]:
    """All three services, and, to compare, a LightGBM predictor that takes everything on.

    Args:
        stack: running.
        folder: for the fourth service's log.
        seconds: how long each.
        late_ms: the longest that what is taken on may take, at the 99th percentile.
    """
    events, graphs = stack.history.events, stack.bundles.gnn.sha12
    trees, rows = of_lightgbm(_ROWS), []
    measured = None
    for name, service, body in (
        ("transformer", stack.transformer, of_transformer(events[:_EVENTS])),
        ("graph predictor", stack.gnn, await of_gnn(events[:_ROWS], graphs)),
        ("LightGBM predictor", stack.lightgbm, trees),
    ):
        measured = await overloaded(service, body, seconds)
        rows += measured.rows(f"{name} at {_OVERLOAD:g} times its capacity", late_ms)
    arguments = [f"--model_dir={stack.bundles.lightgbm.folder}"]
    control = Service("inference_services.lightgbm_predictor", NAME, arguments, folder / "control.log", _UNLIMITED)
    try:
        await asyncio.to_thread(control.wait_ready)
        without = (await overloaded(control, trees, seconds)).taken_ms(0.5)
    finally:
        await asyncio.to_thread(control.stop)
    gain = without / measured.taken_ms(0.5) if measured is not None else 0.0
    return [
        *rows,
        Row("LightGBM predictor that takes everything on: median", without, "ms"),
        Row("that, to the one that sheds", gain, "times", f"at least {_LEAST_GAIN:g}", gain >= _LEAST_GAIN),
    ]


async def overloaded(service: Service, body: Body, seconds: float) -> Overload:
    """What one service does."""
    request = post(f"/v2/models/{GNN if service.name == GNN else NAME}/infer", orjson.dumps(body))
    client, health = Client(service.port), list[Reply]()
    capacity = await _capacity(client, request)
    watching = asyncio.create_task(_watch(client, health))
    replies = await open_loop(client, [request], _OVERLOAD * capacity, seconds)
    watching.cancel()
    client.close()
    return Overload(capacity, replies, sum(reply.status != 200 for reply in health), seconds)


async def _capacity(client: Client, request: bytes) -> float:
    """Requests a second of callers who wait for each answer."""
    clock = asyncio.get_running_loop().time
    end, done = clock() + _MEASURE_S, 0

    async def call() -> None:
        nonlocal done
        while clock() < end:
            reply = await client.send(request)
            done += reply.status == 200

    await asyncio.gather(*(call() for _ in range(_WORKERS)))
    return done / _MEASURE_S


async def _watch(client: Client, health: list[Reply]) -> None:
    while True:
        health.append(await client.send(get("/v2/health/ready")))
        await asyncio.sleep(0.1)
