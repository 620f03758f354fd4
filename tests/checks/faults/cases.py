"""Parts, what is done to them, and what one case of it shows."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import orjson
import redis
import redis.asyncio

from inference_services.transformer.decisions import FIELD, STREAM
from tests.checks.faults.load import Answered, Load, wrong_answers
from tests.checks.faults.proxy import Proxy
from tests.checks.faults.reference import Answers
from tests.small_stack import Redis, Service, SmallStack

Part = Literal["store", "stream", "lightgbm", "gnn"]
Fault = Literal["kill", "hang", "slow", "corrupt"]
PARTS: tuple[Part, ...] = ("store", "stream", "lightgbm", "gnn")
FAULTS: tuple[Fault, ...] = ("kill", "hang", "slow", "corrupt")
Case = Mapping[Part, Fault]

SINGLE: tuple[Case, ...] = tuple({part: fault} for part in PARTS for fault in FAULTS)
# Every two parts, each pair twice, so that every fault meets every other.
PAIRS: tuple[Case, ...] = tuple(
    {first: FAULTS[n % 4], second: FAULTS[(n + shift) % 4]}
    for shift in (1, 2)
    for n, (first, second) in enumerate(itertools.combinations(PARTS, 2))
)
# What a decision leaves out with a part.
NAMED: Mapping[Part, str] = {"store": "store", "lightgbm": "lightgbm", "gnn": "gnn"}

_HEALTHY_S = 1.0
_READY_S = 60.0
_DELIVERY_S = 10.0


@dataclass(frozen=True)
class Outcome:
    """What one case showed.

    Attributes:
        sent: requests, from before the faults until all parts had been ready for a while.
        lost: the statuses of those without an answer of 200; 0 is refused, -1 cut off.
        wrong: what was wrong with answers.
        unnamed: answers to requests sent while a part was down that do not name it, by part.
        undelivered: decisions that are neither in the stream nor in the spool.
        recovery_s: from when a part was ready until no answer left it out, by part.
        client_s: how long each answer took, for the client.
        server_ms: how long each decision took, by its record.
    """

    sent: int
    lost: Sequence[int]
    wrong: Sequence[str]
    unnamed: Mapping[str, int]
    undelivered: int
    recovery_s: Mapping[str, float]
    client_s: Sequence[float]
    server_ms: Sequence[float]

    FAULTS: ClassVar = ("lost", "answered wrongly", "not naming a part that is down", "decisions not delivered")

    def told(self) -> str:
        """How many of each of `FAULTS` there are."""
        return ", ".join(str(n) for n in self._faults())

    @property
    def faultless(self) -> bool:
        """Whether there is none."""
        return not any(self._faults())

    def _faults(self) -> tuple[int, int, int, int]:
        return len(self.lost), len(self.wrong), sum(self.unnamed.values()), self.undelivered


class Bench:
    """The stack with a proxy before each part.

    Args:
        stack: running, its transformer behind the proxies.
        proxies: by part.
        right: what each event must be answered.
        rate: requests a second.
        budget_s: latency budget of the transformer.

    Attributes:
        stack: the same.
    """

    def __init__(
        self, stack: SmallStack, proxies: Mapping[Part, Proxy], right: Answers, *, rate: float, budget_s: float
    ) -> None:
        self._budget_s = budget_s
        self.stack, self._proxies, self._right, self._rate = stack, proxies, right, rate
        self._events = 0
        self._delivered_s = 0.0
        self._parts: dict[Part, Redis | Service] = {
            "store": stack.store,
            "stream": stack.stream,
            "lightgbm": stack.lightgbm,
            "gnn": stack.gnn,
        }

    async def run(self, case: Case, seconds: float, settle_s: float = 6.0) -> Outcome:
        """Faults for so many seconds under load, then their end, then as long as the parts need and `settle_s`."""
        clock = asyncio.get_running_loop().time
        load = Load(self.stack, self._rate, self._events)
        running = asyncio.create_task(load.run())
        await asyncio.sleep(_HEALTHY_S)
        for part, fault in case.items():
            await self._break(part, fault)
        down = clock()
        await asyncio.sleep(seconds)
        mended = clock()
        ready = dict(await asyncio.gather(*(self._mend(part, fault, load) for part, fault in case.items())))
        await asyncio.sleep(max(0.0, max(ready.values()) + settle_s - clock()))
        load.stop()
        await running
        self._events += load.sent
        recovery = {part: _recovery(load.answered, part, ready) for part in case if part in NAMED}
        if "stream" in case:
            recovery["stream"] = self._delivered_s
        records = await self._records({one.event_id for one in load.answered})
        named = [part for part in case if part in NAMED]
        return Outcome(
            sent=load.sent,
            lost=[one.reply.status for one in load.answered if one.reply.status != 200],
            wrong=wrong_answers(load.answered, self._right),
            unnamed={part: _unnamed(load.answered, part, down, mended - self._budget_s) for part in named},
            undelivered=load.sent - len(records),
            recovery_s=recovery,
            client_s=[one.reply.seconds for one in load.answered],
            server_ms=list(records.values()),
        )

    async def _break(self, part: Part, fault: Fault) -> None:
        process = self._parts[part]
        if fault == "kill":
            await asyncio.to_thread(process.kill)
        elif fault == "hang":
            os.kill(process.process.pid, signal.SIGSTOP)
        else:
            self._proxies[part].mode = fault

    async def _mend(self, part: Part, fault: Fault, load: Load) -> tuple[Part, float]:
        """Ends a fault; returns when the part was ready."""
        clock = asyncio.get_running_loop().time
        process = self._parts[part]
        if fault == "kill":
            await asyncio.to_thread(process.start)
        elif fault == "hang":
            os.kill(process.process.pid, signal.SIGCONT)
        else:
            self._proxies[part].mode = "pass"
        async with asyncio.timeout(_READY_S):
            while not await asyncio.to_thread(process.ready):
                await asyncio.sleep(0.05)
        ready = clock()
        if part == "stream":
            await self._delivery(load.next_id())
            self._delivered_s = clock() - ready
        return part, ready

    async def _delivery(self, first: str) -> None:
        """Waits until the decision of this event or a later one is in the stream."""
        async with redis.asyncio.Redis.from_url(self.stack.stream.url) as client:
            async with asyncio.timeout(_READY_S):
                while True:
                    newest = await client.xrevrange(STREAM, count=1)
                    if newest and orjson.loads(newest[0][1][FIELD.encode()])["event_id"] >= first:
                        return
                    await asyncio.sleep(0.05)

    async def _records(self, ids: set[str]) -> dict[str, float]:
        """The milliseconds of each decision that is in the stream or the spool; empties the stream."""
        found: dict[str, float] = {}
        clock = asyncio.get_running_loop().time
        deadline = clock() + _DELIVERY_S
        async with redis.asyncio.Redis.from_url(self.stack.stream.url) as client:
            while not ids <= found.keys() and clock() < deadline:
                entries = [fields[FIELD.encode()] for _, fields in await client.xrange(STREAM)]
                spooled = [line for file in self.stack.spool.glob("*") for line in file.read_bytes().splitlines()]
                for record in map(orjson.loads, (*entries, *spooled)):
                    found[record["event_id"]] = record["latency_ms"]
                await asyncio.sleep(0.2)
            await client.delete(STREAM)
        return {event_id: found[event_id] for event_id in ids & found.keys()}


def _recovery(answered: Sequence[Answered], part: Part, ready: Mapping[Part, float]) -> float:
    """Seconds from when a part was ready to when the last request was sent whose answer left it out."""
    # Nobody asks the graph model while its embeddings cannot be read.
    at = max(ready[part], ready.get("store", 0.0)) if part == "gnn" else ready[part]
    without = [
        one.reply.due for one in answered if one.reply.status == 200 and NAMED[part] in one.degraded().split(",")
    ]
    return max(0.0, max(without, default=at) - at)


def _unnamed(answered: Sequence[Answered], part: Part, begin: float, end: float) -> int:
    """Answers to what was sent in a time, without the name of a part."""
    meant = [one for one in answered if begin < one.reply.due < end and one.reply.status == 200]
    return sum(NAMED[part] not in one.degraded().split(",") for one in meant)
