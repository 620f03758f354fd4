"""A part that is down costs a decision nothing after its first failures, and takes part again when it is back."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from feature_repo.event_batch import EventBatch
from inference_services.transformer.decider import Decider
from inference_services.transformer.feature_tensors import FEATURE_PARAMETERS
from inference_services.transformer.fusion import Fusion
from inference_services.transformer.predictors import V2Client
from tests.contract.fusion_bundle import G1, L1, NAME, PAYMENT, write_fusion
from tests.contract.played_parts import FakeStore, answering, broken, endless, nonsense, refusing
from tests.contract.predictor_fake import Handler, PlayedServer

FAILURES = 3
RETRY_S = 0.8
BUDGET_S = 0.4
FAULTS: dict[str, Handler] = {"hangs": endless, "refuses": refusing, "fails": broken, "answers garbage": nonsense}


class Company:
    """A decider whose parts a test takes away and gives back; counts how often each is asked."""

    def __init__(self, fusion: Fusion) -> None:
        self.store = CountingStore()
        self.handlers: dict[str, Handler] = {"lightgbm": answering(-3.0, L1), "gnn": answering(-3.0, G1)}
        self.asked = {"lightgbm": 0, "gnn": 0}
        clients = (
            V2Client(self._server("lightgbm"), NAME, parameters=FEATURE_PARAMETERS),
            V2Client(self._server("gnn"), "fraud-gnn"),
        )
        self._decider = Decider(
            self.store, *clients, fusion, budget_s=BUDGET_S, breaker_failures=FAILURES, breaker_retry_s=RETRY_S
        )

    async def degraded(self) -> str:
        decided = await self._decider.decide(EventBatch.from_rows([PAYMENT]))
        return str(decided.outputs["degraded"][0])

    def asked_of(self, part: str) -> int:
        return {"store": self.store.asked, "graph": self.store.asked_embeddings, **self.asked}[part]

    def _server(self, name: str) -> PlayedServer:
        def answer(request: dict[str, Any]) -> Any:
            self.asked[name] += 1
            return self.handlers[name](request)

        return PlayedServer(answer)


class CountingStore(FakeStore):
    asked = asked_embeddings = 0

    async def read(self, batch: EventBatch) -> Any:
        self.asked += 1
        return await super().read(batch)

    async def embeddings(self, version: str, kinds: Any, ids: Any, key_ids: Any, dim: int) -> Any:
        self.asked_embeddings += 1
        return await super().embeddings(version, kinds, ids, key_ids, dim)


@pytest.fixture
def company(tmp_path: Path) -> Company:
    write_fusion(tmp_path / "fusion")
    return Company(Fusion.load(tmp_path / "fusion"))


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("part", ["lightgbm", "gnn"])
async def test_a_model_that_is_down_is_asked_no_more_and_tried_again(part: str, fault: str, company: Company):
    healthy = company.handlers[part]
    assert await company.degraded() == ""
    before = company.asked_of(part)
    company.handlers[part] = FAULTS[fault]
    assert [await company.degraded() for _ in range(10)] == [part] * 10
    assert company.asked_of(part) == before + FAILURES
    company.handlers[part] = healthy
    await asyncio.sleep(RETRY_S)
    assert await company.degraded() == ""


async def test_a_store_that_hangs_is_asked_no_more_and_tried_again(company: Company):
    company.store.delay_s = 60.0
    assert [await company.degraded() for _ in range(10)] == ["store,gnn"] * 10
    assert company.asked_of("store") == FAILURES
    company.store.delay_s = 0.0
    await asyncio.sleep(RETRY_S)
    assert await company.degraded() == ""


async def test_embeddings_that_hang_are_asked_for_no_more_and_tried_again(company: Company):
    company.store.embeddings_delay_s = 60.0
    assert [await company.degraded() for _ in range(10)] == ["graph"] * 10
    assert company.asked_of("graph") == FAILURES
    assert company.asked_of("gnn") == 10
    company.store.embeddings_delay_s = 0.0
    await asyncio.sleep(RETRY_S)
    assert await company.degraded() == ""


async def test_one_decision_alone_tries_a_part_that_hangs(company: Company):
    company.handlers["gnn"] = endless
    for _ in range(FAILURES):
        await company.degraded()
    await asyncio.sleep(RETRY_S)
    before = company.asked_of("gnn")
    assert await asyncio.gather(*(company.degraded() for _ in range(20))) == ["gnn"] * 20
    assert company.asked_of("gnn") == before + 1
