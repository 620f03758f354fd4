"""`python -m tests.checks.soak`: a hundred thousand events through the whole path, no slower or larger at the end.

Writes .local/reports/check-soak.json.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import orjson
import redis

from inference_services.transformer.decisions import STREAM
from pipelines.local_stack import PROJECT_ROOT
from pipelines.report import Row
from pipelines.terminal import console
from tests import valid_requests
from tests.bounds import conclude, leave
from tests.contract.fusion_bundle import NAME
from tests.load import Client, percentile, post
from tests.small_stack import SmallStack, small_stack

_TENTHS = 10
_SLOWER = 1.25
_GROWTH_MIB = 16.0


@dataclass
class Tenth:
    """A tenth of the requests.

    Attributes:
        seconds: how long each took.
        failed: answers that are not 200.
        degraded: answers without one of the parts.
        resident_mib: memory of each process at its end.
    """

    seconds: list[float] = field(default_factory=list)
    failed: int = 0
    degraded: int = 0
    resident_mib: dict[str, float] = field(default_factory=dict)


def main() -> int:
    """Returns 1 when a bound is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--callers", type=int, default=4, help="requests under way at a time")
    parser.add_argument("--minutes", type=float, default=20.0, help="at most")
    parser.add_argument("--out", type=Path, default=PROJECT_ROOT / ".local" / "reports" / "check-soak.json")
    given = parser.parse_args()
    until = time.monotonic() + 60 * given.minutes
    with tempfile.TemporaryDirectory() as folder, small_stack(Path(folder)) as stack:
        requests = [
            post(f"/v2/models/{NAME}/infer", orjson.dumps(valid_requests.of_transformer([event])))
            for event in stack.history.events
        ]
        tenths: list[Tenth] = []
        while len(tenths) < _TENTHS and time.monotonic() < until:
            tenths.append(asyncio.run(soaked(stack, requests, given.requests // _TENTHS, given.callers)))
            with redis.Redis.from_url(stack.stream.url) as client:
                client.delete(STREAM)  # it keeps a million decisions, and this is about our own processes
            console.print(f"{len(tenths)} of {_TENTHS}: median {1000 * percentile(tenths[-1].seconds, 0.5):.1f} ms")
    return conclude(rows(tenths, given.requests), given.out, console)


async def soaked(stack: SmallStack, requests: list[bytes], n: int, callers: int) -> Tenth:
    """One tenth, by callers who wait for each answer."""
    client, tenth, left = Client(stack.transformer.port), Tenth(), n

    async def call() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            reply = await client.send(requests[left % len(requests)])
            tenth.seconds.append(reply.seconds)
            tenth.failed += reply.status != 200
            tenth.degraded += reply.status == 200 and b'"data":[""]' not in reply.body

    await asyncio.gather(*(call() for _ in range(callers)))
    client.close()
    parts = {"transformer": stack.transformer, "LightGBM predictor": stack.lightgbm, "graph predictor": stack.gnn}
    tenth.resident_mib = {name: service.resident_mib() for name, service in parts.items()}
    return tenth


def rows(tenths: list[Tenth], wanted: int) -> list[Row]:
    """The report's rows."""
    sent = sum(len(tenth.seconds) for tenth in tenths)
    failed = sum(tenth.failed for tenth in tenths)
    first, last = tenths[0], tenths[-1]
    result = [
        Row("requests", sent, "", f"{wanted:,}", sent >= wanted),
        Row("answers that are not 200", failed, "", "none", failed == 0),
        Row("answers that left a part out", sum(tenth.degraded for tenth in tenths)),
    ]
    for name, share, bound in (("median", 0.5, _SLOWER), ("p99", 0.99, None)):
        early, late = (1000 * percentile(tenth.seconds, share) for tenth in (first, last))
        ratio = late / early
        result += [Row(f"{name} of the first tenth", early, "ms"), Row(f"{name} of the last tenth", late, "ms")]
        if bound is not None:
            result.append(Row(f"{name}: last to first", ratio, "", f"at most {bound}", ratio <= bound))
    for name, before in first.resident_mib.items():
        growth = last.resident_mib[name] - before
        result += [
            Row(f"{name}: memory after the first tenth", before, "MiB"),
            Row(f"{name}: growth since", growth, "MiB", f"at most {_GROWTH_MIB:g} MiB", growth <= _GROWTH_MIB),
        ]
    return result


if __name__ == "__main__":
    leave(main())
