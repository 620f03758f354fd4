"""One valid V2 request body for each of the three models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from feature_repo.event_batch import EventBatch
from feature_repo.settings import EMBEDDING_DIM
from inference_services.subgraph import Subgraph
from inference_services.transformer.decider import model_features
from tests.contract.conftest import make_rows
from tests.contract.played_parts import FakeStore
from tests.contract.test_transformer_process import tensors_of

Body = dict[str, Any]


def of_transformer(events: Sequence[Mapping[str, Any]]) -> Body:
    """Decisions about events."""
    return {"inputs": tensors_of([{k: v for k, v in event.items() if v is not None} for event in events])}


def of_lightgbm(n: int) -> Body:
    """Scores of n rows, a tensor for each feature."""
    return {"inputs": [_tensor(name, values) for name, values in make_rows(n, seed=3).items()]}


async def of_gnn(events: Sequence[Mapping[str, Any]], version: str) -> Body:
    """Scores of events, each of whose riders has two interactions behind it."""
    batch = EventBatch.from_rows([dict(event) for event in events])
    read = await FakeStore().read(batch)
    graph = Subgraph.build(batch, model_features(batch, read), read.interactions, read.interaction_counts)
    m = len(graph.kinds)
    embeddings = {version: (np.full((m, EMBEDDING_DIM), 0.5, np.float32), np.ones(m, np.float32))}
    return {"inputs": [_tensor(name, values) for name, values in graph.tensors(embeddings).items()]}


def _tensor(name: str, values: NDArray[Any]) -> dict[str, Any]:
    datatype = {"f8": "FP64", "f4": "FP32", "i8": "INT64", "b1": "BOOL"}.get(values.dtype.str[1:], "BYTES")
    flat = [None if isinstance(v, float) and np.isnan(v) else v for v in values.ravel().tolist()]
    return {"name": name, "datatype": datatype, "shape": list(values.shape), "data": flat}
