"""What each event must be answered, by what is left out: from a decider in this process, on the same parts."""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson

from feature_repo.errors import StoreUnavailable
from feature_repo.event_batch import EventBatch
from feature_repo.online_reader import OnlineReader, StoreRead
from inference_services.model_names import GNN
from inference_services.transformer.decider import Decider
from inference_services.transformer.feature_tensors import FEATURE_PARAMETERS
from inference_services.transformer.fusion import Fusion
from inference_services.transformer.http_pool import HttpAnswer, HttpPool
from inference_services.transformer.predictors import V2Client
from tests.contract.fusion_bundle import NAME
from tests.small_stack import SmallStack

PARTS = ("store", "graph", "gnn", "lightgbm")
_PATIENCE_S = 60.0


@dataclass(frozen=True)
class Expected:
    """One event's answer.

    Attributes:
        numbers: outputs that must be equal, by name.
        decision: allow, review or block.
        reasons: those that may be given; one whose explanation came too late is left out.
    """

    numbers: Mapping[str, float]
    decision: str
    reasons: tuple[str, ...]


Answers = Mapping[tuple[int, str], Expected]
NUMBERS = ("fraud_probability", "lightgbm_probability", "gnn_probability")


class _Gone:
    async def post(self, path: str, headers: bytes, body: bytes) -> HttpAnswer:
        raise ConnectionRefusedError("left out on purpose")


class _Store(OnlineReader):
    """The real store without what is missing of it."""

    def __init__(self, url: str, missing: Set[str]) -> None:
        super().__init__(url, timeout_s=_PATIENCE_S)
        self._missing = missing

    async def read(self, batch: EventBatch) -> StoreRead:
        return StoreRead.nothing(len(batch)) if "store" in self._missing else await super().read(batch)

    async def embeddings(self, *asked: Any) -> Any:
        if "graph" in self._missing:
            raise StoreUnavailable("left out on purpose")
        return await super().embeddings(*asked)


async def expected_answers(stack: SmallStack) -> Answers:
    """By event and `degraded`."""
    found: dict[tuple[int, str], Expected] = {}
    for number in range(2 ** len(PARTS)):
        missing = {part for bit, part in enumerate(PARTS) if number >> bit & 1}
        store = _Store(stack.store.url, missing)
        pools = [HttpPool(f"http://127.0.0.1:{service.port}") for service in (stack.lightgbm, stack.gnn)]
        trees = V2Client(_Gone() if "lightgbm" in missing else pools[0], NAME, parameters=FEATURE_PARAMETERS)
        graphs = V2Client(_Gone() if "gnn" in missing else pools[1], GNN)
        decider = Decider(
            store, trees, graphs, Fusion.load(stack.bundles.fusion.folder), budget_s=_PATIENCE_S, breaker_failures=10**9
        )
        for event, row in enumerate(stack.history.events):
            outputs = (await decider.decide(EventBatch.from_rows([row]))).outputs
            found[event, str(outputs["degraded"][0])] = expected_of({k: v.tolist() for k, v in outputs.items()})
        await store.close()
        for pool in pools:
            pool.close()
    return found


def expected_of(outputs: Mapping[str, Any]) -> Expected:
    """An answer about one event, to compare; reasons without the order of their keys."""
    reasons = tuple(
        sorted(orjson.dumps(r, option=orjson.OPT_SORT_KEYS).decode() for r in orjson.loads(outputs["reasons"][0]))
    )
    return Expected({name: outputs[name][0] for name in NUMBERS}, outputs["decision"][0], reasons)


def differs(answer: Expected, right: Expected) -> str:
    """What is wrong with an answer; nothing when it is right."""
    for name, value in right.numbers.items():
        if not np.isclose(answer.numbers[name], value, rtol=1e-9, atol=0):
            return f"{name} {answer.numbers[name]!r} instead of {value!r}"
    if answer.decision != right.decision:
        return f"{answer.decision} instead of {right.decision}"
    unknown = set(answer.reasons) - set(right.reasons)
    return f"reasons that it should not have: {sorted(unknown)}" if unknown else ""
