"""How long each model takes for one event, as it is asked at a request."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from feature_repo.graph_features import K_NEIGHBOURS
from feature_repo.pseudonyms import ENTITY_KINDS

WARM_UP = 20
CALLS = 300


def median_ms(call: Callable[[int], Any], calls: int = CALLS) -> float:
    """Median time of one call, milliseconds: a busy machine moves the mean and the tail, hardly the median.

    Args:
        call: given the number of the call, from 0; the first `WARM_UP` are not timed.
        calls: how many are timed.
    """
    for i in range(WARM_UP):
        call(i)
    times = np.empty(calls)
    for i in range(calls):
        started = time.perf_counter()
        call(i)
        times[i] = time.perf_counter() - started
    return float(np.median(times) * 1000)


def lightgbm_ms(folder: Path, calls: int = CALLS) -> float:
    """Median time of the trees for one row of the bundle's reference sample, milliseconds.

    Raises:
        BundleError: the bundle cannot be used.
    """
    from inference_services.lightgbm_predictor.scorer import LightGbmScorer  # noqa: PLC0415 - takes seconds to load

    scorer = LightGbmScorer.load(folder)
    with np.load(folder / "reference_sample.npz", allow_pickle=False) as sample:
        X = np.ascontiguousarray(sample["X"], np.float64)
    return median_ms(lambda i: scorer.score(X[i % len(X) : i % len(X) + 1]), calls)


def gnn_ms(folder: Path, calls: int = CALLS) -> float:
    """Median time of stage 2 for one event that has every endpoint and all their neighbours, milliseconds.

    Raises:
        BundleError: the bundle cannot be used.
    """
    import torch  # noqa: PLC0415 - takes seconds to load

    from components.train_gnn.replay import one_thread  # noqa: PLC0415
    from inference_services.gnn_predictor.network import EventGraph, load_network  # noqa: PLC0415

    network = load_network(folder)
    tensors = {name: torch.from_numpy(a) for name, a in _full_event(network.config).items()}
    with one_thread(), torch.no_grad():
        return median_ms(lambda i: network(EventGraph(**tensors)), calls)


def _full_event(config: Any) -> dict[str, Any]:
    """The arrays of `EventGraph` for one event with all endpoints and neighbours."""
    kinds, d = len(ENTITY_KINDS), config.embedding_dim
    m = kinds * K_NEIGHBOURS
    rng = np.random.default_rng(0)

    def some(*shape: int) -> Any:
        return rng.normal(size=shape).astype(np.float32)

    return {
        "endpoint_kind": np.arange(kinds),
        "endpoint_event": np.zeros(kinds, np.int64),
        "endpoint_embedding": some(kinds, d),
        "endpoint_known": np.ones(kinds, np.float32),
        "neighbour_kind": np.arange(m) % kinds,
        "neighbour_embedding": some(m, d),
        "neighbour_known": np.ones(m, np.float32),
        "edge_index": np.stack([np.arange(m), np.arange(m) // K_NEIGHBOURS]),
        "edge_features": some(m, len(config.edge_features)),
        "event_features": some(1, len(config.event_features)),
    }
