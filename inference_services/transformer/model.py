"""The KServe model: V2 event tensors in, V2 decision tensors out.

Input: one tensor [n] per event field (see `decode`), n from 1 to 1024.
Output, each [n]: `fraud_probability` FP64 (-1 when no model could score), `decision` BYTES (allow, review, block),
`lightgbm_probability` and `gnn_probability` FP64 (-1 when that model did not answer), `reasons` BYTES (a JSON list of
`Reason`, see `explainer.py`), `degraded` BYTES (what was left out: a comma list of store, graph, gnn, lightgbm; empty
when nothing was).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from feature_repo.event_batch import EventBatch
from feature_repo.event_schemas import CATALOGUE
from inference_services.errors import InvalidRequest
from inference_services.request_context import request_id
from inference_services.served import Served
from inference_services.tracing import annotate, recording
from inference_services.transformer.decider import Decider
from inference_services.transformer.decisions import DecisionLog
from inference_services.transformer.decode import decode_event, decode_events
from inference_services.transformer.gathering import Gathering
from inference_services.transformer.metrics import DecisionMetrics, span_attributes, timed
from inference_services.v2 import Array, Datatype, Tensors
from inference_services.v2_model import Outputs, V2Model

_OUTPUTS: dict[str, Datatype] = {
    "fraud_probability": "FP64",
    "decision": "BYTES",
    "lightgbm_probability": "FP64",
    "gnn_probability": "FP64",
    "reasons": "BYTES",
    "degraded": "BYTES",
}
# A larger batch is decided in chunks, each within the latency budget. While one waits for the store or the models,
# another is worked on; more at a time would only wait for each other.
CHUNK_ROWS = 64
_CHUNKS_AT_ONCE = 2
# The first few open connections and miss the deadline.
WARM_UP_DECISIONS = 10


class FraudTransformer(V2Model):
    """Decides events.

    Args:
        name: model name in the path.
        decider: makes the decisions.
        decisions: takes them to the decision stream.
        version: label of the fusion bundle, answered as `model_version`.
        revision: the revision that this process is.
        close: closes the connections when the server stops.
    """

    def __init__(
        self,
        name: str,
        decider: Decider,
        decisions: DecisionLog,
        *,
        version: str,
        revision: str = "",
        close: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        super().__init__(name)
        self._decider = decider
        self._decisions = decisions
        self.version = version
        self._revision = revision
        self._metrics = DecisionMetrics(Served.of(self, revision))
        self._gathering = Gathering(self._decide, CHUNK_ROWS)
        self._close = close
        self._warm = False
        # KServe serves a model whose flag is set and runs its engine beside the server; `healthy` tells readiness.
        self.ready = True
        self.engine = True

    async def start_engine(self) -> None:
        """Warms the connections in the server's own event loop, then delivers decisions until stopped."""
        for _ in range(WARM_UP_DECISIONS):
            await self._decider.decide(_WARM_UP)
        self._decider.forgive()
        self._warm = True
        try:
            await self._decisions.run()
        finally:
            if self._close is not None:
                await self._close()

    def stop_engine(self) -> None:
        """Lets the decision log deliver what is queued and end."""
        self._decisions.stop()

    async def healthy(self) -> bool:
        """Whether the first decision of the process has been made."""
        return self._warm

    def get_input_types(self) -> list[dict[str, Any]]:
        """The event fields, for V2 model metadata."""
        return [{"name": n, "datatype": f.v2_datatype, "shape": [-1]} for n, f in CATALOGUE.fields.items()]

    def get_output_types(self) -> list[dict[str, Any]]:
        """The output tensors, for V2 model metadata."""
        return [{"name": name, "datatype": datatype, "shape": [-1]} for name, datatype in _OUTPUTS.items()]

    async def answer(self, tensors: Tensors, wanted: Sequence[str]) -> Outputs:
        """Answers one V2 request and publishes its decisions.

        Raises:
            InvalidRequest: a tensor or an event is not valid, or an output is asked for that does not exist.
        """
        for name in wanted:
            if name not in _OUTPUTS:
                raise InvalidRequest(f"output {name!r} does not exist; there are {', '.join(_OUTPUTS)}")
        with timed("decode"):
            # A request that is traced is decided alone, so that its spans are its own.
            decoded = (None if recording() else decode_event(tensors)) or decode_events(tensors)
        if isinstance(decoded, EventBatch):
            outputs = await self._in_chunks(decoded)
        else:
            outputs = await self._gathering.outputs(decoded)
        if recording():
            annotate(span_attributes(outputs))
        return Outputs(outputs, self.version, {"revision": self._revision})

    async def _in_chunks(self, batch: EventBatch) -> Mapping[str, Array]:
        ids = [request_id()] * len(batch)
        if len(batch) <= CHUNK_ROWS:
            return await self._decide(batch, ids)
        places = np.array_split(np.arange(len(batch)), -(-len(batch) // CHUNK_ROWS))
        lanes = asyncio.Semaphore(_CHUNKS_AT_ONCE)

        async def decide(rows: NDArray[np.int64]) -> Mapping[str, Array]:
            async with lanes:
                return await self._decide(batch.take(rows), ids[: len(rows)])

        chunks = await asyncio.gather(*map(decide, places))
        return {name: np.concatenate([chunk[name] for chunk in chunks]) for name in _OUTPUTS}

    async def _decide(self, batch: EventBatch, request_ids: Sequence[str]) -> Mapping[str, Array]:
        decided = await self._decider.decide(batch, request_ids)
        self._decisions.publish(decided.records)
        self._metrics.observe(decided.records)
        return decided.outputs


_WARM_UP = EventBatch.from_rows(
    [
        {
            "event_id": "warm-up",
            "event_type": "account_changed",
            "event_timestamp": 1_735_689_600_000_000,
            "rider_id": "r1-0000000000000000",
            "device_id": "v1-0000000000000000",
            "city": "tehran",
            "change": "email",
        }
    ]
)
