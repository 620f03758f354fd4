"""The peer of the whole path: a KServe transformer as its documentation has it, with Feast's SDK and default classes.

`preprocess` reads the online service and the embeddings through `FeatureStore.get_online_features` and adds the
request-time features; `predict` sends the row to a stock LightGBM predictor and the event's subgraph to the graph
network's, side by side and over REST, with KServe's own clients; `postprocess` calibrates, fuses and decides by
thresholds. It gives no reasons, has no deadlines and records nothing.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import kserve.model_server
import numpy as np
from feast import FeatureStore
from kserve import InferenceRESTClient, InferInput, InferOutput, InferRequest, InferResponse, Model, ModelServer
from kserve.inference_client import RESTConfig
from numpy.typing import NDArray

from feature_repo.event_batch import EventBatch
from feature_repo.feature_names import CATEGORICAL_FEATURES
from feature_repo.graph_features import INTERACTION, K_NEIGHBOURS, decode_interactions
from feature_repo.profiles import UNPUBLISHED, profile_features
from feature_repo.pseudonyms import ENTITY_KINDS, format_pseudonym
from feature_repo.request_features import CityNorms, request_features
from feature_repo.services import ONLINE_SERVICE
from feature_repo.settings import EMBEDDING_DIM, FeatureSettings
from feature_repo.tiles import ACTIVITY_FEATURES
from inference_services.calibration import FULL
from inference_services.lightgbm_predictor.scorer import LightGbmScorer
from inference_services.model_names import GNN
from inference_services.subgraph import Subgraph
from inference_services.transformer.decode import decode_events
from inference_services.transformer.fusion import Fusion, Score
from inference_services.v2 import Tensors
from tests.contract.fusion_bundle import NAME
from tests.feast_answers import Answer, feast_embeddings, feast_features, online_rows

_NORMS = ("fare_per_km", "speed_kmh", "gps_accuracy_m")


_DATATYPES = {"i8": "INT64", "f4": "FP32"}


class Asked(InferRequest):  # type: ignore[misc]  # KServe ships no types
    """The row for LightGBM, which KServe passes on, with the subgraph for the graph network."""

    def __init__(self, row: InferInput, graph: InferRequest) -> None:
        super().__init__(NAME, [row], request_id=graph.id)
        self.graph = graph


@dataclass(frozen=True)
class Answered:
    """What they said."""

    trees: InferResponse
    graph: InferResponse


class StockTransformer(Model):
    """Decides events by both models.

    Args:
        name: model name in the path.
        store: Feast's SDK.
        scorer: of the LightGBM bundle, for its columns and its calibration.
        fusion: of both models.
        gnn_url: base address of the graph network's predictor.
    """

    def __init__(self, name: str, store: FeatureStore, scorer: LightGbmScorer, fusion: Fusion, gnn_url: str) -> None:
        super().__init__(name)
        self._store = store
        self._service = store.get_feature_service(ONLINE_SERVICE)
        self._scorer = scorer
        self._fusion = fusion
        self._gnn_url = gnn_url
        self._client = InferenceRESTClient(RESTConfig(protocol="v2", timeout=30))
        # The benchmark's are the same for every type of event.
        (self._limits,) = set(fusion.thresholds.values())
        self.ready = True

    async def preprocess(self, payload: InferRequest, headers: dict[str, str] | None = None) -> Asked:
        """Event tensors to one row of features and the event's subgraph."""
        del headers
        batch = decode_events(Tensors.of(payload))
        found = feast_features(self._store, self._service, online_rows(batch))
        features = _features(batch, found)
        rows = self._scorer.encode(features, len(batch))
        row = InferInput("input-0", list(rows.shape), "FP64", rows.ravel().tolist())
        graph = Subgraph.build(batch, features, *_interactions(found, len(batch)))
        tensors = graph.tensors({self._fusion.gnn: self._embeddings(graph)})
        inputs = [_input(name, values) for name, values in tensors.items()]
        return Asked(row, InferRequest(GNN, inputs, request_id=payload.id))

    async def predict(
        self, payload: Asked, headers: dict[str, str] | None = None, response_headers: Any = None
    ) -> Answered:
        """Asks both predictors at once."""
        trees, graph = await asyncio.gather(
            super().predict(payload, headers, response_headers),
            self._client.infer(self._gnn_url, payload.graph, model_name=GNN),
        )
        return Answered(trees, graph)

    async def postprocess(
        self, result: Answered, headers: dict[str, str] | None = None, response_headers: Any = None
    ) -> InferResponse:
        """Scores of both models to decisions."""
        del headers, response_headers
        score = result.trees.outputs[0].as_numpy()
        said = {output.name: output.as_numpy() for output in result.graph.outputs}
        calibration = self._scorer.calibrations[FULL]
        raw = np.log(score) - np.log1p(-score)
        trees, graph = (
            Score(calibration.log_odds(raw), self._fusion.lightgbm),
            Score(said["log_odds"], self._fusion.gnn),
        )
        probability = self._fusion.combine(trees, graph, FULL, len(score)).probability
        limits = self._limits
        decisions = np.where(
            probability >= limits.block, "block", np.where(probability >= limits.review, "review", "allow")
        )
        numbers = {
            "fraud_probability": probability,
            "lightgbm_probability": calibration.probability(raw),
            "gnn_probability": said["probability"],
        }
        outputs = [InferOutput(name, list(v.shape), "FP64", v.tolist()) for name, v in numbers.items()]
        outputs.append(InferOutput("decision", list(decisions.shape), "BYTES", decisions.tolist()))
        return InferResponse(result.trees.id, self.name, outputs)

    def _embeddings(self, graph: Subgraph) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Embeddings [m, d] and known [m] of a subgraph's entities; Feast wants columns of one length."""
        names = [
            format_pseudonym(ENTITY_KINDS[kind], int(key_id), int(hash64))
            for kind, hash64, key_id in zip(graph.kinds, graph.ids, graph.key_ids, strict=True)
        ]
        of_kind = [np.flatnonzero(graph.kinds == code) for code in range(len(ENTITY_KINDS))]
        longest = max(map(len, of_kind))
        asked = {
            f"{kind}_id": [names[place] for place in places] + [""] * (longest - len(places))
            for kind, places in zip(ENTITY_KINDS, of_kind, strict=True)
        }
        found = feast_embeddings(self._store, self._fusion.gnn, asked)
        vectors, known = np.zeros((len(names), EMBEDDING_DIM), np.float32), np.zeros(len(names), np.float32)
        for kind, places in zip(ENTITY_KINDS, of_kind, strict=True):
            for place, vector in zip(places, found[f"{kind}_id"][: len(places)], strict=True):
                if vector is not None:
                    vectors[place], known[place] = vector, 1.0
        return vectors, known


def _features(batch: EventBatch, found: Answer) -> Mapping[str, NDArray[Any]]:
    features: dict[str, NDArray[Any]] = {name: batch[name] for name in CATEGORICAL_FEATURES}
    norms = CityNorms(*(_numbers(found[f"city_{name}"], np.nan) for name in _NORMS))
    features |= request_features(batch, norms)
    features |= {name: np.asarray(found[name], np.float64) for name in ACTIVITY_FEATURES}
    for kind in ENTITY_KINDS:
        stored = {name: _numbers(found[f"{kind}_{name}"], absent) for name, absent in UNPUBLISHED.items()}
        features |= profile_features(kind, stored, batch["event_timestamp"])
    return features


def _interactions(found: Answer, n: int) -> tuple[NDArray[np.void], NDArray[np.int64]]:
    """The last interactions of each event's entities [n, 4, K], and how many of the K exist [n, 4]."""
    table = np.zeros((n, len(ENTITY_KINDS), K_NEIGHBOURS), INTERACTION)
    counts = np.zeros((n, len(ENTITY_KINDS)), np.int64)
    for slot, kind in enumerate(ENTITY_KINDS):
        for row, blob in enumerate(found[f"{kind}_neighbours_blob"]):
            recent = decode_interactions(blob or b"")[:K_NEIGHBOURS]
            table[row, slot, : len(recent)], counts[row, slot] = recent, len(recent)
    return table, counts


def _input(name: str, values: NDArray[Any]) -> InferInput:
    return InferInput(name, list(values.shape), _DATATYPES[values.dtype.str[1:]], values.ravel().tolist())


def _numbers(values: Sequence[Any], absent: float) -> NDArray[Any]:
    return np.array([absent if value is None else value for value in values])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(parents=[kserve.model_server.parser])
    parser.add_argument("--model_dir", required=True, type=Path)
    parser.add_argument("--fusion", required=True, type=Path)
    parser.add_argument("--gnn_url", required=True)
    parser.add_argument("--redis_url", required=True)
    parser.add_argument("--registry", required=True, type=Path)
    parser.add_argument("--offline", required=True, type=Path)
    args = parser.parse_args()
    settings = FeatureSettings(redis_url=args.redis_url, registry=args.registry, offline=args.offline)
    store = FeatureStore(config=settings.repo_config())
    scorer, fusion = LightGbmScorer.load(args.model_dir), Fusion.load(args.fusion)
    model = StockTransformer(args.model_name, store, scorer, fusion, args.gnn_url)
    ModelServer(workers=1).start([model])
