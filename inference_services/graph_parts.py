"""Parts of the event subgraphs in a request: some of its events, with some of their past left out.

Works on the tensors by name: `endpoint_*` has a row per endpoint, `neighbour_*` one per neighbour, `edge_*` one per
interaction, `event_*` one per event; `endpoint_event` and `edge_index` hold the rows that belong together.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Graph = Mapping[str, NDArray[Any]]
Ints = NDArray[np.int64]

EVENT_OF_ENDPOINT = "endpoint_event"
EDGES = "edge_index"
# Outputs of the graph predictor, when asked for.
NEIGHBOUR_INFLUENCE, ENDPOINT_INFLUENCE = "neighbour_influence", "endpoint_influence"


def take_events(
    graph: Graph, events: Ints, without_edge: Ints | None = None, without_history: Ints | None = None
) -> dict[str, NDArray[Any]]:
    """The subgraphs of some events, of one event as often as it is named.

    Args:
        graph: tensors of n events, E endpoints and M interactions.
        events: r rows of events, each 0 to n - 1.
        without_edge: the interaction that each of the r leaves out, -1 for none.
        without_history: the endpoint all of whose interactions each of the r leaves out, -1 for none.

    Returns:
        The same tensors of r events; endpoints, and interactions with a neighbour each, by event and then as given.
    """
    source, target = graph[EDGES]
    endpoint, of_endpoint = _rows_of(events, graph[EVENT_OF_ENDPOINT])
    edge, of_edge = _rows_of(events, graph[EVENT_OF_ENDPOINT][target])
    kept = np.ones(len(edge), np.bool_)
    if without_edge is not None:
        kept &= edge != without_edge[of_edge]
    if without_history is not None:
        kept &= target[edge] != without_history[of_edge]
    edge, of_edge = edge[kept], of_edge[kept]
    # The row of endpoint e in the r-th event is found by the pair of them.
    width = len(graph[EVENT_OF_ENDPOINT])
    codes = of_endpoint * width + endpoint
    order = np.argsort(codes)
    moved = order[np.searchsorted(codes, of_edge * width + target[edge], sorter=order)]
    rows = {"endpoint": endpoint, "neighbour": source[edge], "edge": edge, "event": events}
    part = {name: values[rows[name.partition("_")[0]]] for name, values in graph.items() if name != EDGES}
    part[EVENT_OF_ENDPOINT] = of_endpoint
    part[EDGES] = np.stack([np.arange(len(edge)), moved]).astype(np.int64)
    return part


def _rows_of(events: Ints, owner: Ints) -> tuple[Ints, Ints]:
    """The rows that belong to each of r events, and which of the r each is for; `owner` is the event of each row."""
    order = np.argsort(owner, kind="stable")
    first = np.searchsorted(owner[order], events, side="left")
    end = np.searchsorted(owner[order], events, side="right")
    counts = end - first
    which = np.repeat(np.arange(len(events)), counts)
    before = np.cumsum(counts) - counts
    return order[np.repeat(first - before, counts) + np.arange(len(which))], which
