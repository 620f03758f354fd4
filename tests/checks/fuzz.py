"""`python -m tests.checks.fuzz`: hostile requests at all three models, over REST and gRPC, and what is left of them.

Writes .local/reports/check-fuzz.json.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
from pathlib import Path

import httpx

from inference_services.model_names import GNN
from pipelines.local_stack import PROJECT_ROOT
from pipelines.report import Row
from pipelines.terminal import console
from tests import valid_requests
from tests.bounds import conclude, leave
from tests.contract.fusion_bundle import NAME
from tests.hostile.calls import Verdict, call_grpc, call_rest
from tests.hostile.grpc import HostileGrpc
from tests.hostile.rest import HostileRest
from tests.hostile.values import Body
from tests.small_stack import Service, SmallStack, small_stack

_REST_SHARE = 0.7
# Allocators take a while to have what they need; after the first fifth the memory must not grow.
_STEPS = 5
_GROWTH_MIB = 16.0


def main() -> int:
    """Returns 1 when a bound is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=21_000, help="in all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=PROJECT_ROOT / ".local" / "reports" / "check-fuzz.json")
    given = parser.parse_args()
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder, small_stack(Path(folder)) as stack:
        for name, service, valid in asyncio.run(targets(stack)):
            rows += fuzzed(name, service, valid, given.requests // 3, given.seed)
    return conclude(rows, given.out, console)


async def targets(stack: SmallStack) -> tuple[tuple[str, Service, Body], ...]:
    """The services, each with a valid request."""
    events = stack.history.events
    return (
        ("transformer", stack.transformer, valid_requests.of_transformer(events[:2])),
        ("LightGBM predictor", stack.lightgbm, valid_requests.of_lightgbm(2)),
        ("graph predictor", stack.gnn, await valid_requests.of_gnn(events[:2], stack.bundles.gnn.sha12)),
    )


def fuzzed(name: str, service: Service, valid: Body, requests: int, seed: int) -> list[Row]:
    """The rows of one service."""
    model = GNN if service.name == GNN else NAME
    before = scores(service, model, valid)
    verdict = Verdict()
    rest, hostile_grpc = HostileRest(model, valid, seed), HostileGrpc(model, valid, seed)
    memory = []
    for _ in range(_STEPS):
        n = round(requests / _STEPS * _REST_SHARE)
        asyncio.run(call_rest(service.port, rest, n, verdict))
        asyncio.run(call_grpc(service.grpc_port, hostile_grpc, requests // _STEPS - n, verdict))
        memory.append(service.resident_mib())
    for problem in verdict.problems[:20]:
        console.print(problem, markup=False)
    growth = memory[-1] - memory[0]
    intact = service.process.alive() and scores(service, model, valid) == before
    return [
        Row(f"{name}: hostile requests", verdict.answers.total()),
        Row(f"{name}: internal errors or no answer", len(verdict.problems), "", "none", not verdict.problems),
        *(Row(f"{name}: {status}", count) for status, count in sorted(verdict.answers.items())),
        Row(f"{name}: afterwards answers a sound request as before", "yes" if intact else "no", "", "yes", intact),
        Row(f"{name}: memory after the first fifth", memory[0], "MiB"),
        Row(f"{name}: growth of memory since", growth, "MiB", f"at most {_GROWTH_MIB:g} MiB", growth <= _GROWTH_MIB),
    ]


def scores(service: Service, model: str, valid: Body) -> list[object]:
    """What a sound request is answered, without what differs from request to request."""
    answer = httpx.post(f"http://127.0.0.1:{service.port}/v2/models/{model}/infer", json=valid, timeout=60)
    return [output for output in answer.json()["outputs"] if output["name"] != "reasons"]


if __name__ == "__main__":
    leave(main())
