"""The KServe model: V2 tensors -> matrix -> scores -> V2 tensors.

Input, in one of three forms: one tensor [n] per feature of the bundle (FP64; the categorical ones BYTES); the numbers
among them as one matrix `features` [n, k], FP32 or FP64, whose parameter `columns` names its columns, separated by
commas, and the categorical ones beside it; or one matrix `input-0` [n, F] in bundle order. Of the first two forms a
caller can send the superset that two versions need: other tensors and columns are ignored.
Output: `raw_score`, `log_odds`, `probability` FP64 [n], and `contributions` FP64 [n, F + 1] when asked for, with the
response parameters `features` naming its columns and, where the bundle has them, `typical_values`: JSON, event type of
the request -> feature -> [5th percentile, median, 95th percentile] among the honest events that the trees learnt from.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import numpy as np

from inference_services.lightgbm_predictor.inputs import MatrixInputs
from inference_services.lightgbm_predictor.scorer import LightGbmScorer, Matrix
from inference_services.score_metrics import ScoreMetrics
from inference_services.served import Served
from inference_services.typical_values import PARAMETER, TypicalValues
from inference_services.v2 import Array, Tensors
from inference_services.v2_model import Outputs, V2Model

CONTRIBUTIONS = "contributions"
EVENT_TYPE = "event_type"
# Fewer rows than this score in the time that a hop to a thread costs.
_INLINE_ROWS = 32


class LightGbmPredictor(V2Model):
    """Serves one LightGBM bundle under a model name."""

    eager = True

    def __init__(self, name: str, scorer: LightGbmScorer, revision: str = "") -> None:
        super().__init__(name)
        self.version = scorer.bundle.label
        self._scorer = scorer
        self._inputs = MatrixInputs(scorer.features, scorer.categorical)
        self._typical = TypicalValues.read(scorer.bundle)
        self._parameters = {"revision": revision}
        self._metrics = ScoreMetrics(Served.of(self, revision))

    def load(self) -> bool:
        """Scores once, so that the first caller does not pay for lazy set-up."""
        X = np.zeros((1, len(self._scorer.features)))
        self._scorer.score(X)
        self._scorer.contributions(X)
        self.ready = True
        return True

    def get_input_types(self) -> list[dict[str, Any]]:
        """The tensors of the named form, for V2 model metadata."""
        return [{"name": n, "datatype": self._inputs.datatype(n), "shape": [-1]} for n in self._scorer.features]

    def get_output_types(self) -> list[dict[str, Any]]:
        """The output tensors, for V2 model metadata."""
        names = ("raw_score", "log_odds", "probability")
        width = len(self._scorer.features) + 1
        return [
            *({"name": name, "datatype": "FP64", "shape": [-1]} for name in names),
            {"name": CONTRIBUTIONS, "datatype": "FP64", "shape": [-1, width]},
        ]

    async def answer(self, tensors: Tensors, wanted: Sequence[str]) -> Outputs:
        """Answers one V2 request.

        Raises:
            InvalidRequest: a tensor is missing or does not fit.
        """
        X = self._inputs.matrix(tensors)
        explain = CONTRIBUTIONS in wanted
        if explain or len(X) > _INLINE_ROWS:
            arrays = await asyncio.to_thread(self._outputs, X, explain)
        else:
            arrays = self._outputs(X, explain)
        parameters = self._parameters
        if explain:
            parameters = {**parameters, "features": ",".join(self._scorer.features), **self._typical_of(X)}
        return Outputs(arrays, self.version, parameters)

    def answered(self, outputs: Outputs) -> None:
        """Counts the scores."""
        self._metrics.observe(outputs)

    def _outputs(self, X: Matrix, explain: bool) -> dict[str, Array]:
        scores = self._scorer.score(X)
        outputs: dict[str, Array] = {
            "raw_score": scores.raw_score,
            "log_odds": scores.log_odds,
            "probability": scores.probability,
        }
        if explain:
            outputs[CONTRIBUTIONS] = self._scorer.contributions(X)
        return outputs

    def _typical_of(self, X: Matrix) -> dict[str, str]:
        """The response parameter with what is typical of the rows' event types; nothing where the bundle has none."""
        if self._typical is None or EVENT_TYPE not in self._scorer.features:
            return {}
        codes = X[:, self._scorer.features.index(EVENT_TYPE)]
        levels = self._scorer.categorical.get(EVENT_TYPE, ())
        types = [levels[int(code)] for code in np.unique(codes) if 0 <= code < len(levels)]
        return {PARAMETER: self._typical.parameter(types)}
