"""Events whose graph is missing: the store could not give their embeddings.

Absence has one sign, as everywhere: NaN. A row of NaN alone among the embeddings says that this entity's could not be
read, and takes the whole graph of every event that it belongs to: the event is scored from its own features, as
training did with a share of its events. Half a graph was never trained on. A new entity is something else: zeros, and
`known` 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inference_services.graph_parts import EDGES, ENDPOINT_INFLUENCE, EVENT_OF_ENDPOINT, NEIGHBOUR_INFLUENCE, Graph

Bools = NDArray[np.bool_]
EMBEDDINGS = ("endpoint_embedding", "neighbour_embedding")


def unread(embedding: NDArray[np.float32]) -> Bools:
    """Which of m embeddings [m, d] could not be read, [m]."""
    missing: Bools = np.all(np.isnan(embedding), axis=1)
    return missing


def without_graph(graph: Graph) -> Bools:
    """Which of n events have no graph, [n].

    Args:
        graph: the tensors of `EventGraph`, valid but for rows of NaN among the embeddings.
    """
    missing = np.zeros(len(graph["event_features"]), np.bool_)
    endpoint, neighbour = (unread(graph[name]) for name in EMBEDDINGS)
    if endpoint.any() or neighbour.any():
        source, target = graph[EDGES]
        missing[graph[EVENT_OF_ENDPOINT][endpoint]] = True
        missing[graph[EVENT_OF_ENDPOINT][target[neighbour[source]]]] = True
    return missing


def drop(graph: Graph, missing: Bools) -> tuple[dict[str, NDArray[Any]], Mapping[str, Bools]]:
    """Takes the endpoints and interactions of some events away; the events stay.

    Args:
        graph: the tensors of `EventGraph`.
        missing: of which events, [n].

    Returns:
        The tensors, and which endpoints [E] and interactions [M] are left, by "endpoint" and "edge". A neighbour that
        no interaction leads to any more stays, as zeros where it was not read.
    """
    source, target = graph[EDGES]
    endpoint = ~missing[graph[EVENT_OF_ENDPOINT]]
    edge = endpoint[target]
    kept = {"endpoint": endpoint, "edge": edge}
    rest = {name: values for name, values in graph.items() if name != EDGES}
    for name in rest:
        part = name.partition("_")[0]
        if part in kept:
            rest[name] = rest[name][kept[part]]
    rest[EDGES] = np.stack([source[edge], (np.cumsum(endpoint) - 1)[target[edge]]])
    rest["neighbour_embedding"] = np.nan_to_num(graph["neighbour_embedding"])
    return rest, kept


def spread(influences: Mapping[str, NDArray[np.float64]], kept: Mapping[str, Bools]) -> dict[str, NDArray[np.float64]]:
    """The influences of what `drop` left, among zeros for what it took: a missing past has none."""
    result = {}
    for name, part in ((NEIGHBOUR_INFLUENCE, "edge"), (ENDPOINT_INFLUENCE, "endpoint")):
        result[name] = np.zeros(len(kept[part]))
        result[name][kept[part]] = influences[name]
    return result
