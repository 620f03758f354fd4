"""The peer: a bundle's trees under KServe's `ModelServer` as it comes, with what KServe's own LightGBM runtime calls.

The runtime (`lgbserver`) is not on PyPI; its model hands a request to `get_predict_input`, the rows to
`Booster.predict`, and the scores to `get_predict_response`, as here.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import kserve.model_server
import lightgbm
from kserve import InferRequest, InferResponse, Model, ModelServer
from kserve.utils.utils import get_predict_input, get_predict_response


class StockLightGbm(Model):
    """Probabilities of rows by the trees alone."""

    def __init__(self, name: str, model_file: Path) -> None:
        super().__init__(name)
        self._booster = lightgbm.Booster(params={"nthread": 1}, model_file=model_file)
        self.ready = True

    def predict(
        self, payload: InferRequest, headers: dict[str, str] | None = None, response_headers: Any = None
    ) -> InferResponse:
        """One matrix in, one vector out."""
        del headers, response_headers
        rows = get_predict_input(payload, columns=self._booster.feature_name())
        response: InferResponse = get_predict_response(payload, self._booster.predict(rows), self.name)
        return response


if __name__ == "__main__":
    parser = argparse.ArgumentParser(parents=[kserve.model_server.parser])
    parser.add_argument("--model_dir", required=True)
    args = parser.parse_args()
    ModelServer(workers=1).start([StockLightGbm(args.model_name, Path(args.model_dir) / "model.bst")])
