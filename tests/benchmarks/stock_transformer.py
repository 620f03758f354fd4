"""The peer of the whole path: a KServe transformer as its documentation has it, with Feast's SDK and default classes.

`preprocess` reads the online service through `FeatureStore.get_online_features` and adds the request-time features,
KServe's `predict` sends the row to a stock predictor over REST, `postprocess` calibrates and decides by thresholds.
It asks no graph model, gives no reasons and records nothing.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import kserve.model_server
import numpy as np
from feast import FeatureStore
from kserve import InferInput, InferOutput, InferRequest, InferResponse, Model, ModelServer
from numpy.typing import NDArray

from feature_repo.event_batch import EventBatch
from feature_repo.feature_names import CATEGORICAL_FEATURES
from feature_repo.profiles import UNPUBLISHED, profile_features
from feature_repo.pseudonyms import ENTITY_KINDS
from feature_repo.request_features import CityNorms, request_features
from feature_repo.services import ONLINE_SERVICE
from feature_repo.settings import FeatureSettings
from feature_repo.tiles import ACTIVITY_FEATURES
from inference_services.calibration import FULL
from inference_services.lightgbm_predictor.scorer import LightGbmScorer
from inference_services.transformer.decode import decode_events
from inference_services.transformer.fusion import Fusion
from inference_services.v2 import Tensors
from tests.feast_answers import feast_features, online_rows

_NORMS = ("fare_per_km", "speed_kmh", "gps_accuracy_m")


class StockTransformer(Model):
    """Decides events by the trees alone."""

    def __init__(self, name: str, store: FeatureStore, scorer: LightGbmScorer, fusion: Fusion) -> None:
        super().__init__(name)
        self._store = store
        self._service = store.get_feature_service(ONLINE_SERVICE)
        self._scorer = scorer
        # The benchmark's are the same for every type of event.
        (self._limits,) = set(fusion.thresholds.values())
        self.ready = True

    async def preprocess(self, payload: InferRequest, headers: dict[str, str] | None = None) -> InferRequest:
        """Event tensors to one row of features."""
        del headers
        batch = decode_events(Tensors.of(payload))
        features = self._features(batch)
        rows = self._scorer.encode(features, len(batch))
        tensor = InferInput("input-0", list(rows.shape), "FP64", rows.ravel().tolist())
        return InferRequest(self.name, [tensor], request_id=payload.id)

    async def postprocess(
        self, result: InferResponse, headers: dict[str, str] | None = None, response_headers: Any = None
    ) -> InferResponse:
        """Probabilities of the trees to decisions."""
        del headers, response_headers
        score = result.outputs[0].as_numpy()
        probability = self._scorer.calibrations[FULL].probability(np.log(score) - np.log1p(-score))
        limits = self._limits
        decisions = np.where(
            probability >= limits.block, "block", np.where(probability >= limits.review, "review", "allow")
        )
        outputs = [
            InferOutput("fraud_probability", list(probability.shape), "FP64", probability.tolist()),
            InferOutput("decision", list(decisions.shape), "BYTES", decisions.tolist()),
        ]
        return InferResponse(result.id, self.name, outputs)

    def _features(self, batch: EventBatch) -> Mapping[str, NDArray[Any]]:
        found = feast_features(self._store, self._service, online_rows(batch))
        features: dict[str, NDArray[Any]] = {name: batch[name] for name in CATEGORICAL_FEATURES}
        norms = CityNorms(*(_numbers(found[f"city_{name}"], np.nan) for name in _NORMS))
        features |= request_features(batch, norms)
        features |= {name: np.asarray(found[name], np.float64) for name in ACTIVITY_FEATURES}
        for kind in ENTITY_KINDS:
            stored = {name: _numbers(found[f"{kind}_{name}"], absent) for name, absent in UNPUBLISHED.items()}
            features |= profile_features(kind, stored, batch["event_timestamp"])
        return features


def _numbers(values: Sequence[Any], absent: float) -> NDArray[Any]:
    return np.array([absent if value is None else value for value in values])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(parents=[kserve.model_server.parser])
    parser.add_argument("--model_dir", required=True, type=Path)
    parser.add_argument("--fusion", required=True, type=Path)
    parser.add_argument("--redis_url", required=True)
    parser.add_argument("--registry", required=True, type=Path)
    parser.add_argument("--offline", required=True, type=Path)
    args = parser.parse_args()
    settings = FeatureSettings(redis_url=args.redis_url, registry=args.registry, offline=args.offline)
    store = FeatureStore(config=settings.repo_config())
    model = StockTransformer(args.model_name, store, LightGbmScorer.load(args.model_dir), Fusion.load(args.fusion))
    ModelServer(workers=1).start([model])
