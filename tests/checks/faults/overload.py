"""Three times what a service can do, open loop: what it takes on is answered in time, and the rest is told.

The load comes from a process of its own, over connections that were open before. The report says how late it was, and
what the service itself says of its times. The first second is apart: a process that has measured nothing yet takes on
more than it answers in time, and finds its limit.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import orjson

from inference_services.model_names import GNN
from pipelines.report import Row
from tests.checks.faults.served_times import ServedTimes, scrape
from tests.contract.fusion_bundle import NAME
from tests.load import Client, Reply, get, percentile
from tests.load_generator import Exchange, Load, Work, load
from tests.small_stack import Service, SmallStack
from tests.valid_requests import Body, of_gnn, of_lightgbm, of_transformer

_OVERLOAD, _LEAST_OVERLOAD = 3.0, 2.8
_CALLERS, _MEASURE_S = 8, 3.0
# More than are ever under way, so that no request waits for one of them.
_CONNECTIONS = 512
# The process that makes the load has to start and to open its connections.
_START_S = 2.0
# What may pass until the limit is found, and for how long that must have been so.
_SETTLE_S, _STEADY_S = 1.0, 0.5
_LEAST_GOODPUT = 0.5
# How much sooner what is taken on is answered than by the same service that takes everything on.
_LEAST_GAIN = 2.0
_UNLIMITED = {f"FRAUD_SERVER_{name}_IN_FLIGHT": "1000000" for name in ("LEAST", "START", "MOST")}
# Some rows a request, so that the client, which shares the machine, is not what is overloaded. No more, so that a
# request is one piece on the wire: a larger one may wait for the window to open, and then for a timer.
_ROWS = 16


@dataclass(frozen=True)
class Overload:
    """What three times its capacity did to a service.

    Attributes:
        capacity: requests a second of callers who wait for each answer.
        load: what was sent, and what came of it.
        sick: questions after its health that were not answered with 200.
        seconds: for how long it was sent.
        served: the service's own times, of what came after the first second.
    """

    capacity: float
    load: Load
    sick: int
    seconds: float
    served: ServedTimes

    @property
    def taken(self) -> Sequence[Exchange]:
        """Those that were answered with 200."""
        return [exchange for exchange in self.load.exchanges if exchange.status == 200]

    def taken_ms(self, share: float) -> float:
        """Percentile of how long what was taken on after the first second took."""
        return 1000 * percentile([one.took for one in self.taken if one.due >= _SETTLE_S], share)

    def settled_s(self, late_s: float) -> float:
        """When the first half second began in which 99 % of what was taken on was in time; infinity when none was."""
        taken = self.taken
        for tenth in range(int(10 * (self.seconds - _STEADY_S)) + 1):
            times = [one.took for one in taken if tenth / 10 <= one.due < tenth / 10 + _STEADY_S]
            if times and percentile(times, 0.99) <= late_s:
                return tenth / 10
        return math.inf

    def rows(self, name: str, late_ms: float) -> list[Row]:
        """The report's rows of a service that sheds."""
        exchanges = self.load.exchanges
        told = Counter(exchange.status for exchange in exchanges)
        others = len(exchanges) - told[200] - told[429]
        sent = sum(exchange.sent < self.seconds for exchange in exchanges) / (self.capacity * self.seconds)
        lag = 1000 * percentile([exchange.sent - exchange.due for exchange in exchanges], 0.99)
        share = told[200] / (self.capacity * self.seconds)
        settled, p99 = self.settled_s(late_ms / 1000), self.taken_ms(0.99)
        settling, within = f"{name}: until it answers within {late_ms:g} ms", f"within {_SETTLE_S:g} s"
        return [
            Row(f"{name}: capacity", self.capacity, "requests/s"),
            Row(f"{name}: sent, to that", sent, "times", f"at least {_LEAST_OVERLOAD:g}", sent >= _LEAST_OVERLOAD),
            Row(f"{name}: sent later than due, p99", lag, "ms"),
            Row(f"{name}: taken on", told[200]),
            Row(f"{name}: told to come again", told[429], "", "some", told[429] > 0),
            Row(f"{name}: anything else", others, "", "none", others == 0),
            Row(f"{name}: health not answered with 200", self.sick, "", "none", self.sick == 0),
            Row(settling, settled, "s", within, settled <= _SETTLE_S),
            Row(f"{name}: median of what is taken on", self.taken_ms(0.5), "ms"),
            Row(f"{name}: of that, in the service", self._in_service(0.5)),
            Row(f"{name}: p99 of what is taken on", p99, "ms", f"at most {late_ms:g} ms", p99 <= late_ms),
            Row(f"{name}: of that, in the service", self._in_service(0.99)),
            Row(f"{name}: capacity still used", share, "share", f"{_LEAST_GOODPUT:.0%}", share >= _LEAST_GOODPUT),
        ]

    def _in_service(self, share: float) -> str:
        lower, upper = self.served.taken_ms(share)
        return f"{lower:g} to {upper:g} ms"


async def overloads(stack: SmallStack, folder: Path, seconds: float, late_ms: float) -> list[Row]:
    """All three services, and, to compare, a LightGBM predictor that takes everything on.

    Args:
        stack: running.
        folder: for the fourth service's log.
        seconds: how long each.
        late_ms: the longest that what is taken on may take, at the 99th percentile.
    """
    events, trees = stack.history.events, [of_lightgbm(_ROWS)]
    asked: Mapping[str, tuple[Service, Sequence[Body]]] = {
        "transformer": (stack.transformer, [of_transformer([event]) for event in events]),
        "graph predictor": (stack.gnn, [await of_gnn(events[:_ROWS], stack.bundles.gnn.sha12)]),
        "LightGBM predictor": (stack.lightgbm, trees),
    }
    found = {name: await overloaded(service, bodies, seconds) for name, (service, bodies) in asked.items()}
    rows = [
        row for name, one in found.items() for row in one.rows(f"{name} at {_OVERLOAD:g} times its capacity", late_ms)
    ]
    arguments = [f"--model_dir={stack.bundles.lightgbm.folder}"]
    control = Service("inference_services.lightgbm_predictor", NAME, arguments, folder / "control.log", _UNLIMITED)
    try:
        await asyncio.to_thread(control.wait_ready)
        without = (await overloaded(control, trees, seconds)).taken_ms(0.5)
    finally:
        await asyncio.to_thread(control.stop)
    gain = without / found["LightGBM predictor"].taken_ms(0.5)
    return [
        *rows,
        Row("LightGBM predictor that takes everything on: median", without, "ms"),
        Row("that, to the one that sheds", gain, "times", f"at least {_LEAST_GAIN:g}", gain >= _LEAST_GAIN),
    ]


async def overloaded(service: Service, bodies: Sequence[Body], seconds: float) -> Overload:
    """What one service does."""
    path = f"/v2/models/{GNN if service.name == GNN else NAME}/infer"
    work = Work(service.port, path, [orjson.dumps(body).decode() for body in bodies], "", _CALLERS, _MEASURE_S)
    capacity = (await asyncio.to_thread(load, work)).rate
    begin = time.perf_counter() + _START_S
    more = replace(work, connections=_CONNECTIONS, seconds=seconds, rate=_OVERLOAD * capacity, begin=begin)
    health = list[Reply]()
    watching = asyncio.create_task(_watch(service, health))
    loading = asyncio.create_task(asyncio.to_thread(load, more))
    await asyncio.sleep(begin + _SETTLE_S - time.perf_counter())
    before = await asyncio.to_thread(scrape, service)
    replies = await loading
    watching.cancel()
    served = await asyncio.to_thread(scrape, service) - before
    return Overload(capacity, replies, sum(reply.status != 200 for reply in health), seconds, served)


async def _watch(service: Service, health: list[Reply]) -> None:
    client = Client(service.port)
    try:
        while True:
            health.append(await client.send(get("/v2/health/ready")))
            await asyncio.sleep(0.1)
    finally:
        client.close()
