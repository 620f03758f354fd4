"""The KServe model: judges a batch at once (V2), or windows that it gathers from CloudEvents.

Input: one FP64 tensor [n] per judged feature; others are ignored. Output: `is_drift` BOOL [1], `p_value` and `distance`
FP64 [F], with the response parameter `features` naming the F entries.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any
from urllib.parse import unquote

import numpy as np
import orjson
from cloudevents.exceptions import GenericException
from cloudevents.http import from_http
from fastapi import Request, Response
from fastapi.responses import JSONResponse
from kserve import InferRequest
from prometheus_client import Counter, Gauge

from inference_services.drift_detector.detector import DriftDetector, Vector, Verdict
from inference_services.errors import InvalidRequest
from inference_services.v2 import Tensors
from inference_services.v2_model import Outputs, V2Model

REQUEST_TYPE = "org.kubeflow.serving.inference.request"
# As Go writes the header that says where the JSON of a request with binary tensors ends.
HEADER_LENGTH = "Inference-Header-Content-Length"

DETECTED = Gauge("fraud_drift_detected", "1 when the last window had drifted.")
FEATURE = Gauge("fraud_drift_feature_detected", "1 when a feature of the last window had drifted.", ["feature"])
P_VALUE = Gauge("fraud_drift_p_value", "p-value of a feature in the last window.", ["feature"])
WINDOWS = Counter("fraud_drift_windows", "Windows judged.")
LAST = Gauge("fraud_drift_last_window_timestamp_seconds", "When a window was last judged.")
WAITING = Gauge("fraud_drift_waiting_rows", "Rows that wait for their window to be full.")


class DriftModel(V2Model):
    """Serves a drift detector.

    Args:
        name: model name in the path.
        detector: compares a window with the reference.
        window: rows that are judged together.
        version: label of the bundle whose reference it is.
    """

    def __init__(self, name: str, detector: DriftDetector, window: int, version: str) -> None:
        super().__init__(name)
        self._detector = detector
        self._window = window
        self.version = version
        self._waiting: dict[str, list[Vector]] = {feature: [] for feature in detector.features}
        self._rows = 0
        WAITING.set_function(lambda: self._rows)
        # Senders wait while a window is judged: the buffer never holds more than a window and one request.
        self._lock = asyncio.Lock()
        self.ready = True

    def get_input_types(self) -> list[dict[str, Any]]:
        """The judged features, for V2 model metadata."""
        return [{"name": name, "datatype": "FP64", "shape": [-1]} for name in self._detector.features]

    async def answer(self, tensors: Tensors, wanted: Sequence[str]) -> Outputs:
        """Judges the rows of one V2 request.

        Raises:
            InvalidRequest: a feature is missing or does not fit.
        """
        del wanted
        verdict = await asyncio.to_thread(self._detector.judge, self._columns(tensors))
        arrays = {
            "is_drift": np.array([verdict.is_drift]),
            "p_value": verdict.p_value,
            "distance": verdict.distance,
        }
        return Outputs(arrays, self.version, {"features": ",".join(self._detector.features)})

    async def receive(self, request: Request) -> Response:
        """Takes one CloudEvent of KServe's payload logger; a full window is judged before the answer.

        Answers 202 with the rows that wait, 400 for a body that is not a V2 request with the judged features. Events of
        other types (the logger also sends responses) are taken and left alone.
        """
        try:
            event = from_http(dict(request.headers), await request.body(), data_unmarshaller=_plain)
            if event["type"] == REQUEST_TYPE:
                content = event.get_data() or b""
                await self._gather(self._decode(content, _json_length(event.get("metadata"), content)))
        except GenericException as error:
            return JSONResponse({"error": f"not a CloudEvent: {error}"}, 400)
        except InvalidRequest as error:
            return JSONResponse({"error": str(error)}, 400)
        return JSONResponse({"rows": self._rows}, 202)

    def _decode(self, content: bytes, json_length: int) -> InferRequest:
        try:
            return InferRequest.from_bytes(content, json_length, self.name)
        except Exception as error:  # KServe lets KeyError, TypeError and others through for a body of another form
            raise InvalidRequest(f"the event's data is not a V2 request: {error!r}") from None

    def _columns(self, tensors: Tensors) -> dict[str, Vector]:
        n = tensors.batch_size(self._detector.features)
        return {name: tensors.vector(name, "FP64", n) for name in self._detector.features}

    async def _gather(self, request: InferRequest) -> None:
        columns = self._columns(Tensors.of(request))
        async with self._lock:
            for name, values in columns.items():
                self._waiting[name].append(values)
            self._rows += len(next(iter(columns.values())))
            if self._rows < self._window:
                return
            full = {name: np.concatenate(parts) for name, parts in self._waiting.items()}
            self._waiting = {name: [] for name in self._detector.features}
            self._rows = 0
            self._report(await asyncio.to_thread(self._detector.judge, full))

    def _report(self, verdict: Verdict) -> None:
        WINDOWS.inc()
        LAST.set_to_current_time()
        DETECTED.set(verdict.is_drift)
        rows = zip(self._detector.features, verdict.p_value, verdict.drifted, strict=True)
        for name, p_value, drifted in rows:
            P_VALUE.labels(name).set(p_value)
            FEATURE.labels(name).set(bool(drifted))


def _json_length(metadata: str | None, content: bytes) -> int:
    """How much of a logged request is JSON: all, unless binary tensors follow, as a header said that came along.

    KServe's logger puts the headers that `metadataHeaders` names into the extension `metadata`, as a JSON object.

    Raises:
        InvalidRequest: the extension is of another form.
    """
    try:
        values = orjson.loads(unquote(metadata or "{}")).get(HEADER_LENGTH, [])
        return int(values[0]) if values else len(content)
    except (ValueError, TypeError, AttributeError, LookupError) as error:
        raise InvalidRequest(f"the event's metadata are not the headers of a request: {error!r}") from None


def _plain(content: Any) -> Any:
    return content
