"""The whole path under faults and hostile requests: a little of what `make check-faults` and `check-fuzz` do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from inference_services.model_names import GNN
from tests.checks.faults.__main__ import bench
from tests.checks.faults.cases import Bench, Case
from tests.checks.fuzz import scores, targets
from tests.contract.fusion_bundle import NAME
from tests.hostile.calls import Verdict, call_grpc, call_rest
from tests.hostile.grpc import HostileGrpc
from tests.hostile.rest import HostileRest

SECONDS, SETTLE_S, RATE = 2.0, 3.0, 20.0
# Far above what a busy machine takes: what is tested here is not its speed.
BUDGET_MS = 1000.0
CASES: tuple[Case, ...] = (
    {"store": "corrupt"},
    {"lightgbm": "hang"},
    {"stream": "kill"},
    {"gnn": "slow", "stream": "hang"},
)
REST, GRPC, SEED = 100, 50, 7

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Bench]:
    async with bench(tmp_path_factory.mktemp("faults"), BUDGET_MS, RATE) as made:
        yield made


@pytest.mark.parametrize("case", CASES, ids=lambda case: ", ".join(map(" ".join, case.items())))
async def test_no_request_is_lost_and_none_is_answered_wrongly(case: Case, running: Bench):
    found = await running.run(case, SECONDS, SETTLE_S)
    assert not found.lost
    assert not found.wrong
    assert not found.undelivered
    assert not any(found.unnamed.values())


@pytest.mark.parametrize("target", [0, 1, 2], ids=["transformer", "lightgbm", "gnn"])
async def test_no_hostile_request_is_an_internal_error(target: int, running: Bench):
    _, service, valid = (await targets(running.stack))[target]
    model, verdict = GNN if service.name == GNN else NAME, Verdict()
    before = await asyncio.to_thread(scores, service, model, valid)
    await call_rest(service.port, HostileRest(model, valid, SEED), REST, verdict)
    await call_grpc(service.grpc_port, HostileGrpc(model, valid, SEED), GRPC, verdict)
    assert not verdict.problems
    assert verdict.answers["REST 400"] > REST / 4
    assert await asyncio.to_thread(scores, service, model, valid) == before
