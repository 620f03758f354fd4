"""What a predictor counts of its answers."""

from __future__ import annotations

from inference_services.metrics import PROBABILITY
from inference_services.served import Served
from inference_services.tracing import annotate, recording
from inference_services.v2_model import Outputs


class ScoreMetrics:
    """Counts the scores of one predictor."""

    def __init__(self, served: Served) -> None:
        self._probability = PROBABILITY.labels(**served.labels())

    def observe(self, outputs: Outputs) -> None:
        """Counts an answer with the output `probability` [n], and tells the request's span how many rows it has."""
        probability = outputs.arrays["probability"]
        self._probability.observe(probability)
        if recording():
            annotate({"fraud.rows": len(probability)})
