"""From valid events to decisions: read the store, ask both models, fuse, decide, explain.

Whatever is down is left out, and named.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import orjson
from numpy.typing import NDArray

from feature_repo.errors import FeatureRepoError, StoreUnavailable
from feature_repo.event_batch import EventBatch
from feature_repo.feature_names import CATEGORICAL_FEATURES, MODEL_FEATURES
from feature_repo.online_reader import StoreRead
from feature_repo.request_features import request_features
from feature_repo.settings import EMBEDDING_DIM
from inference_services.alarm_groups import alarm_score
from inference_services.bundle import sha12_of
from inference_services.calibration import FULL, NO_GRAPH, NO_STORE
from inference_services.errors import PartDown, PredictorGone
from inference_services.request_context import request_id
from inference_services.subgraph import Subgraph
from inference_services.transformer.decision_batch import DecisionBatch
from inference_services.transformer.explainer import AskedGraph, Explainer, Reason, Scored
from inference_services.transformer.feature_tensors import feature_tensors
from inference_services.transformer.fusion import UNKNOWN, Fused, Fusion, Score, decide
from inference_services.transformer.metrics import stage_series, timed
from inference_services.transformer.parts import Part
from inference_services.transformer.predictors import Answer, V2Client
from inference_services.transformer.rules.outcome import RuleOutcome
from inference_services.transformer.rules.rule_set import RuleSet

# Shares of the latency budget by which each stage must have ended, counted from the start.
STORE_SHARE = 0.4
EMBEDDINGS_SHARE = 0.6
MODELS_SHARE = 0.8
REASONS_SHARE = 0.95


class Store(Protocol):
    """What the decider needs of the online store."""

    async def read(self, batch: EventBatch) -> StoreRead:
        """Reads the features and neighbours of n events."""

    async def embeddings(
        self, version: str, kinds: NDArray[Any], ids: NDArray[Any], key_ids: NDArray[Any], dim: int
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Reads embeddings [m, dim] and known [m] of m entities."""

    async def close(self) -> None:
        """Closes the connections."""


class Rules(Protocol):
    """What the decider needs of the rules."""

    def judge(self, batch: EventBatch, features: Mapping[str, NDArray[Any]]) -> RuleOutcome:
        """What the rules say of n events."""


@dataclass(frozen=True)
class Decided:
    """The decisions for n events.

    Attributes:
        outputs: the V2 output tensors by name, each [n].
        records: for the decision log, to be encoded once the answer is on its way.
    """

    outputs: Mapping[str, NDArray[Any]]
    records: DecisionBatch


@dataclass(frozen=True)
class _Models:
    """Both models' answers for n events, None for one that did not answer, and what they were fused to.

    `graph` is what the graph model was asked, None when it was not. `mask` is what was available.
    """

    lightgbm: Answer | None
    gnn: Answer | None
    fused: Fused
    graph: AskedGraph | None
    mask: str


class Decider:
    """Decides batches of events.

    Args:
        store: the online store.
        lightgbm: client of the LightGBM predictor.
        gnn: client of the graph model's predictor.
        fusion: the loaded fusion bundle.
        budget_s: latency budget of one call of `decide`, seconds.
        revision: the revision that this process is.
        breaker_failures: failures in a row after which a part is not asked.
        breaker_retry_s: how long it is not asked before one call tries it, seconds.
        rules: override the models' decisions; none unless given.
        materialised: tells how new the materialised views are, for the records.
    """

    def __init__(
        self,
        store: Store,
        lightgbm: V2Client,
        gnn: V2Client,
        fusion: Fusion,
        *,
        budget_s: float,
        revision: str = "",
        breaker_failures: int = 5,
        breaker_retry_s: float = 1.0,
        rules: Rules | None = None,
        materialised: Callable[[], Mapping[str, int]] = dict,
    ) -> None:
        self._store = store
        self._lightgbm = lightgbm
        self._gnn = gnn
        self._explainer = Explainer(lightgbm, gnn)
        self._fusion = fusion
        self._budget_s = budget_s
        self._revision = revision
        self._rules = rules or RuleSet.empty()
        self._materialised = materialised
        self._parts = {
            name: Part(name, breaker_failures, breaker_retry_s) for name in ("store", "graph", "gnn", "lightgbm")
        }

    def forgive(self) -> None:
        """Asks every part again, whatever failed so far: a predictor that starts beside us may be ready by now."""
        for part in self._parts.values():
            part.reset()

    async def decide(self, batch: EventBatch, request_ids: Sequence[str] = ()) -> Decided:
        """Decides n events within the latency budget; never raises because a part is down.

        Args:
            batch: the events.
            request_ids: of the request that each came in; that which is being served when none are given.
        """
        start, begun = asyncio.get_running_loop().time(), time.perf_counter()
        read = await self._read(batch, start + self._budget_s * STORE_SHARE)
        features = model_features(batch, read)
        models = await self._ask_models(batch, read, features, start)
        probability = models.fused.probability
        offset = self._fusion.offset(batch["city"], features["rider_tenure_days"])
        by_models = decide(self._fusion.thresholds, batch["event_type"], alarm_score(probability, offset))
        with timed("rules"):
            ruled = self._rules.judge(batch, features)
        decisions, explainable = ruled.decide(by_models), ruled.explainable(by_models, probability != UNKNOWN)
        reasons = await self._reasons(batch, features, explainable, models, start + self._budget_s * REASONS_SHARE)
        degraded = self._degraded(models)
        outputs = {
            "fraud_probability": probability,
            "decision": decisions,
            "lightgbm_probability": _probability(models.lightgbm, len(batch)),
            "gnn_probability": _probability(models.gnn, len(batch)),
            "reasons": np.array([orjson.dumps(r).decode() for r in ruled.with_reasons(reasons)], object),
            "degraded": np.array([",".join(degraded)] * len(batch), object),
        }
        # The loop's own clock, by which deadlines are kept, counts milliseconds.
        latency_ms = (time.perf_counter() - begun) * 1000
        stage_series("total").observe_one(latency_ms / 1000)
        records = DecisionBatch(
            batch,
            features,
            outputs,
            lightgbm=models.lightgbm,
            gnn=models.gnn,
            graph=models.graph.tensors if models.graph else None,
            availability=models.mask,
            alarm_offset=offset,
            sequence=read.sequence,
            materialised=self._materialised(),
            fusion=self._fusion.bundle.label,
            policy_sha256=self._fusion.policy_sha256,
            revision=self._revision,
            request_ids=request_ids or [request_id()] * len(batch),
            decided_at=time.time_ns() // 1000,
            latency_ms=latency_ms,
            rules=ruled.records(),
        )
        return Decided(outputs, records)

    async def _read(self, batch: EventBatch, deadline: float) -> StoreRead:
        with timed("store"):
            try:
                with self._parts["store"].attempt():
                    async with asyncio.timeout_at(deadline):
                        read = await self._store.read(batch)
                    if not read.available:
                        raise StoreUnavailable(read.problem)
            except (FeatureRepoError, TimeoutError, PartDown):
                return StoreRead.nothing(len(batch))
        return read

    async def _ask_models(
        self, batch: EventBatch, read: StoreRead, features: Mapping[str, NDArray[Any]], start: float
    ) -> _Models:
        n, deadline = len(batch), start + self._budget_s * MODELS_SHARE
        lightgbm, (gnn, graph, mask) = await asyncio.gather(
            self._ask_lightgbm(feature_tensors(features), n, deadline),
            self._ask_gnn(batch, read, features, start),
        )
        return _Models(lightgbm, gnn, self._fusion.combine(_score(lightgbm), _score(gnn), mask, n), graph, mask)

    async def _ask_lightgbm(self, tensors: Mapping[str, NDArray[Any]], n: int, deadline: float) -> Answer | None:
        try:
            with self._parts["lightgbm"].attempt(), timed("lightgbm"):
                return await _scores(self._lightgbm, tensors, n, deadline)
        except (PredictorGone, PartDown):
            return None

    async def _ask_gnn(
        self, batch: EventBatch, read: StoreRead, features: Mapping[str, NDArray[Any]], start: float
    ) -> tuple[Answer | None, AskedGraph | None, str]:
        """Its answer, what it was asked, and the mask of what was available."""
        mask = FULL if read.available else NO_STORE
        if not read.available or not self._fusion.gnn_versions:
            return None, None, mask
        try:
            with self._parts["gnn"].attempt():
                with timed("embeddings"):
                    asked, mask = await self._graph(batch, read, features, start + self._budget_s * EMBEDDINGS_SHARE)
                with timed("gnn"):
                    deadline = start + self._budget_s * MODELS_SHARE
                    return await _scores(self._gnn, asked.tensors, len(batch), deadline), asked, mask
        except (PredictorGone, PartDown):
            return None, None, mask

    async def _graph(
        self, batch: EventBatch, read: StoreRead, features: Mapping[str, NDArray[Any]], deadline: float
    ) -> tuple[AskedGraph, str]:
        """What to ask the graph model: without the graph where embeddings cannot be read in time.

        Raises:
            PredictorGone: they cannot, and the fusion bundle is of before that was trained for.
        """
        graph = Subgraph.build(batch, features, read.interactions, read.interaction_counts)
        embeddings, mask = {}, FULL
        try:
            with self._parts["graph"].attempt():
                async with asyncio.timeout_at(deadline):
                    for version in self._fusion.gnn_versions:
                        found = await self._store.embeddings(
                            version, graph.kinds, graph.ids, graph.key_ids, EMBEDDING_DIM
                        )
                        embeddings[version] = found
        except (FeatureRepoError, TimeoutError, PartDown) as error:
            if not self._fusion.knows_missing_graphs:
                raise PredictorGone(f"embeddings cannot be read: {error!r}") from None
            embeddings, mask = dict.fromkeys(self._fusion.gnn_versions, graph.unread(EMBEDDING_DIM)), NO_GRAPH
        return AskedGraph(graph, read.interactions, graph.tensors(embeddings)), mask

    async def _reasons(
        self,
        batch: EventBatch,
        features: Mapping[str, NDArray[Any]],
        decisions: NDArray[np.object_],
        models: _Models,
        deadline: float,
    ) -> list[list[Reason]]:
        flagged = np.flatnonzero(decisions != "allow")
        if not len(flagged):
            return [[] for _ in decisions]
        scored = Scored(
            batch,
            features,
            lightgbm_version=models.lightgbm.version if models.lightgbm and models.fused.used_lightgbm else None,
            gnn_version=models.gnn.version if models.gnn and models.fused.used_gnn else None,
            graph=models.graph if models.mask == FULL else None,
        )
        with timed("reasons"):
            return await self._explainer.explain(scored, flagged, deadline)

    def _degraded(self, models: _Models) -> list[str]:
        fused = models.fused
        missing = {NO_STORE: ["store"], NO_GRAPH: ["graph"]}.get(models.mask, [])
        if not fused.used_gnn and self._fusion.gnn_versions:
            missing.append("gnn")
        return missing if fused.used_lightgbm else [*missing, "lightgbm"]


def model_features(batch: EventBatch, read: StoreRead) -> dict[str, NDArray[Any]]:
    """Returns MODEL_FEATURES by name, each [n]: str for the categorical ones, float64 for the others."""
    values: dict[str, NDArray[Any]] = {name: batch[name] for name in CATEGORICAL_FEATURES}
    values.update(request_features(batch, read.norms))
    values.update(read.features)
    return {name: values[name] for name in MODEL_FEATURES}


async def _scores(client: V2Client, tensors: Mapping[str, NDArray[Any]], n: int, deadline: float) -> Answer:
    """A model's answer about n events.

    Raises:
        PredictorGone: there is none in time, or it is not one.
    """
    answer = await client.infer(tensors, n, deadline)
    if sha12_of(answer.version) is None or any(
        name not in answer.outputs or answer.outputs[name].ndim != 1 for name in ("log_odds", "probability")
    ):
        raise PredictorGone(f"{client.model} answered without its version, log_odds or probability [n]")
    return answer


def _score(answer: Answer | None) -> Score | None:
    sha12 = sha12_of(answer.version) if answer else None
    return Score(answer.outputs["log_odds"], sha12) if answer and sha12 else None


def _probability(answer: Answer | None, n: int) -> NDArray[np.float64]:
    return np.full(n, UNKNOWN) if answer is None else answer.outputs["probability"]
