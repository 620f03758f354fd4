"""Asks both predictors why they scored flagged events as they did, at the same time; either may fail alone."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from feature_repo.event_batch import EventBatch
from inference_services.admission import waiting
from inference_services.errors import PredictorGone
from inference_services.graph_parts import ENDPOINT_INFLUENCE, NEIGHBOUR_INFLUENCE, take_events
from inference_services.subgraph import Subgraph
from inference_services.transformer.feature_tensors import feature_tensors
from inference_services.transformer.graph_evidence import GraphReason, graph_reasons, histories
from inference_services.transformer.predictors import Answer, V2Client
from inference_services.transformer.reasons import NO_MODEL, FeatureReason, RuleReason, feature_reasons, named_kinds
from inference_services.typical_values import PARAMETER, parse_parameter

Reason = FeatureReason | GraphReason | RuleReason
CONTRIBUTIONS = "contributions"
# A router picks a version for each call: with the traffic split in halves, one event in eight stays unexplained.
TRIES = 3

log = logging.getLogger("fraud")


@dataclass(frozen=True)
class AskedGraph:
    """What the graph model was asked about n events.

    Attributes:
        subgraph: who is who among its endpoints and neighbours.
        interactions: INTERACTION array [n, 4, K] that the subgraph was made of.
        tensors: the request.
    """

    subgraph: Subgraph
    interactions: NDArray[np.void]
    tensors: Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Scored:
    """n scored events, and what their scores came from.

    Attributes:
        batch: the events.
        features: MODEL_FEATURES by name, each [n].
        lightgbm_version: label of the LightGBM version whose score counts, None when none does.
        gnn_version: label of the graph model version whose score counts, None when none does.
        graph: what the graph model was asked, None when it was not.
    """

    batch: EventBatch
    features: Mapping[str, NDArray[Any]]
    lightgbm_version: str | None
    gnn_version: str | None
    graph: AskedGraph | None


class Explainer:
    """Explains flagged events.

    Args:
        lightgbm: client of the LightGBM predictor.
        gnn: client of the graph model's predictor.
    """

    def __init__(self, lightgbm: V2Client, gnn: V2Client) -> None:
        self._lightgbm = lightgbm
        self._gnn = gnn
        self._failing: set[str] = set()

    async def explain(self, scored: Scored, flagged: NDArray[np.int64], deadline: float) -> list[list[Reason]]:
        """The reasons of each of n events; empty for one that is not in `flagged` (rows), or has none in time.

        A model explains only its own decision: a score that did not count has no say, nor has another version, which in
        a canary may answer the second call.
        """
        reasons: list[list[Reason]] = [[] for _ in range(len(scored.batch))]
        if scored.lightgbm_version is None and scored.gnn_version is None:
            for row in flagged:
                reasons[row].append(RuleReason(NO_MODEL))
            return reasons
        by_features, by_graph = await asyncio.gather(
            self._features(scored, flagged, deadline), self._graph(scored, flagged, deadline)
        )
        for row, *parts in zip(flagged, by_features, by_graph, strict=True):
            for part in parts:
                reasons[row].extend(part)
        return reasons

    async def _features(
        self, scored: Scored, flagged: NDArray[np.int64], deadline: float
    ) -> Sequence[Sequence[FeatureReason]]:
        rows = {name: values[flagged] for name, values in scored.features.items()}
        outputs = {CONTRIBUTIONS: len(flagged)}
        answer = await self._ask(self._lightgbm, scored.lightgbm_version, feature_tensors(rows), outputs, deadline)
        if answer is None:
            return [[] for _ in flagged]
        contributions = answer.outputs[CONTRIBUTIONS]
        names = str(answer.parameters.get("features", "")).split(",")
        if contributions.ndim != 2 or contributions.shape[1] != len(names) + 1:
            self._note(self._lightgbm.model, f"contributions of shape {contributions.shape} for {len(names)} features")
            return [[] for _ in flagged]
        typical = parse_parameter(answer.parameters.get(PARAMETER))
        found = []
        for position, row in enumerate(flagged):
            values = {name: column[position] for name, column in rows.items()}
            named = named_kinds(scored.batch.present, int(row))
            usual = typical.get(values["event_type"], {})
            found.append(feature_reasons(contributions[position], names, values, named, usual))
        return found

    async def _graph(
        self, scored: Scored, flagged: NDArray[np.int64], deadline: float
    ) -> Sequence[Sequence[GraphReason]]:
        none: list[list[GraphReason]] = [[] for _ in flagged]
        if scored.graph is None or scored.gnn_version is None:
            return none
        graph = _of_events(scored.graph, flagged)
        rows = {
            NEIGHBOUR_INFLUENCE: graph.subgraph.edge_index.shape[1],
            ENDPOINT_INFLUENCE: len(graph.subgraph.endpoint_event),
        }
        if not rows[NEIGHBOUR_INFLUENCE]:
            return none
        answer = await self._ask(self._gnn, scored.gnn_version, graph.tensors, rows, deadline)
        if answer is None:
            return none
        if any(answer.outputs[name].ndim != 1 for name in rows):
            self._note(self._gnn.model, "influences that are no vectors")
            return none
        of_endpoint, of_neighbour = answer.outputs[ENDPOINT_INFLUENCE], answer.outputs[NEIGHBOUR_INFLUENCE]
        batch = scored.batch.take(flagged)
        found = histories(batch, graph.subgraph, graph.interactions, of_endpoint, of_neighbour)
        return [graph_reasons(of_event) for of_event in found]

    async def _ask(
        self,
        client: V2Client,
        version: str | None,
        tensors: Mapping[str, NDArray[Any]],
        outputs: Mapping[str, int],
        deadline: float,
    ) -> Answer | None:
        """The answer of the version that scored, with all of the outputs; None after TRIES, or the deadline."""
        for _ in range(TRIES if version else 0):
            try:
                with waiting():
                    answer = await client.infer(tensors, outputs, deadline, list(outputs))
                if any(name not in answer.outputs for name in outputs):
                    raise PredictorGone(f"{client.model} answered without {', '.join(outputs)}")
            except PredictorGone as error:
                self._note(client.model, error)
                return None
            self._note(client.model, None)
            if answer.version == version:
                return answer
        return None

    def _note(self, model: str, problem: object) -> None:
        # One line when a model stops explaining and one when it explains again, not one a flagged event.
        if problem is not None and model not in self._failing:
            log.warning("%s gives no reasons: %s", model, problem)
            self._failing.add(model)
        elif problem is None and model in self._failing:
            log.warning("%s gives reasons again", model)
            self._failing.discard(model)


def _of_events(graph: AskedGraph, events: NDArray[np.int64]) -> AskedGraph:
    """What the graph model would have been asked about some of the events, ascending rows."""
    whole = graph.subgraph
    if len(events) == len(whole.event_features):
        return graph
    mine = np.isin(whole.endpoint_event, events)
    edges = mine[whole.edge_index[1]]
    both = np.concatenate([mine, edges])
    tensors = take_events(graph.tensors, events)
    subgraph = replace(
        whole,
        kinds=whole.kinds[both],
        ids=whole.ids[both],
        key_ids=whole.key_ids[both],
        **{name: tensors[name] for name in ("endpoint_event", "edge_index", "edge_features", "event_features")},
    )
    return AskedGraph(subgraph, graph.interactions[events], tensors)
