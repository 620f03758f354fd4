"""KServe's own LightGBM server, in the smallest form that does what its `lgbserver` does, in the same steps.

`python -m tests.contract.stock_lightgbm --model_name=NAME --model_dir=FOLDER`: KServe's storage code fetches the model,
the folder's one `*.bst` file is a booster, and KServe's helpers make a matrix of the request and a tensor `output-0` of
the prediction.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import kserve.model_server
import lightgbm
from kserve import Model, ModelServer
from kserve.utils.utils import get_predict_input, get_predict_response
from kserve_storage import Storage


class StockLightGbm(Model):
    """A booster behind KServe's conversions."""

    def __init__(self, name: str, model_dir: str, threads: int) -> None:
        super().__init__(name)
        self._model_dir = model_dir
        self._threads = threads

    def load(self) -> bool:
        """Fetches the folder and reads its booster."""
        (file,) = Path(Storage.download(self._model_dir)).glob("*.bst")
        self._booster = lightgbm.Booster(params={"nthread": self._threads}, model_file=file)
        self.ready = True
        return self.ready

    def predict(self, payload: Any, headers: Any = None, response_headers: Any = None) -> Any:
        """Answers the booster's prediction."""
        rows = get_predict_input(payload, columns=self._booster.feature_name())
        return get_predict_response(payload, self._booster.predict(rows), self.name)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(parents=[kserve.model_server.parser])
    parser.add_argument("--model_dir", required=True)
    parser.add_argument("--nthread", default=1, type=int)
    args, _ = parser.parse_known_args()
    model = StockLightGbm(args.model_name, args.model_dir, args.nthread)
    model.load()
    ModelServer().start([model])
