"""What the graph model's score rests on: the logit with everything, less the logit without one part of the past.

Leave-one-out, so exact for the part alone; parts that say the same replace each other, so the figures do not add up to
the score. All events without each of their parts are scored as one batch of events.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from feature_repo.graph_features import K_NEIGHBOURS
from feature_repo.pseudonyms import ENTITY_KINDS
from inference_services.errors import InvalidRequest
from inference_services.graph_parts import (
    EDGES,
    ENDPOINT_INFLUENCE,
    EVENT_OF_ENDPOINT,
    NEIGHBOUR_INFLUENCE,
    Graph,
    take_events,
)

INFLUENCES = (NEIGHBOUR_INFLUENCE, ENDPOINT_INFLUENCE)
# An event of m interactions is scored m times with m - 1 of them, so no more are explained than a transformer sends.
MOST_INTERACTIONS = len(ENTITY_KINDS) * K_NEIGHBOURS
# Rows of interactions scored at once: a transformer's chunk of 16 events fits, and 1,024 events take little memory.
_MOST_ROWS = 32_768

Score = Callable[[dict[str, NDArray[Any]]], NDArray[np.float64]]


def influence(score: Score, graph: Graph, raw: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    """How much the logit of its event falls when an interaction, or an endpoint's whole history, is left out.

    Args:
        score: gives the logit [n] of each event of a graph.
        graph: the tensors of `EventGraph`.
        raw: the logits [n] with everything.

    Returns:
        NEIGHBOUR_INFLUENCE float64 [M] by column of `edge_index`, and ENDPOINT_INFLUENCE float64 [E], 0 for an endpoint
        without a history.

    Raises:
        InvalidRequest: an event has more than MOST_INTERACTIONS.
    """
    of_endpoint, target = graph[EVENT_OF_ENDPOINT], graph[EDGES][1]
    of_edge = of_endpoint[target]
    interactions = np.bincount(of_edge, minlength=len(raw))
    if interactions.max(initial=0) > MOST_INTERACTIONS:
        row = int(interactions.argmax())
        raise InvalidRequest(
            f"field {EDGES!r} gives event {row} {interactions[row]} interactions; influence takes {MOST_INTERACTIONS}"
        )
    edges, endpoints = np.arange(len(target)), np.unique(target)
    events = np.concatenate([of_edge, of_endpoint[endpoints]])
    left_out = np.full((2, len(events)), -1, np.int64)
    left_out[0, : len(edges)] = edges
    left_out[1, len(edges) :] = endpoints
    fall = raw[events] - _score_parts(score, graph, events, left_out, interactions[events])
    of_history = np.zeros(len(of_endpoint))
    of_history[endpoints] = fall[len(edges) :]
    return {NEIGHBOUR_INFLUENCE: fall[: len(edges)], ENDPOINT_INFLUENCE: of_history}


def _score_parts(
    score: Score, graph: Graph, events: NDArray[np.int64], left_out: NDArray[np.int64], rows: NDArray[np.int64]
) -> NDArray[np.float64]:
    """The logits of r events, each without its part; one batch, or several where they have very many interactions."""
    if not len(events):
        return np.zeros(0)
    batch = (np.cumsum(rows) - rows) // _MOST_ROWS
    cuts = np.flatnonzero(np.diff(batch)) + 1
    parts = zip(np.split(events, cuts), np.split(left_out, cuts, axis=1), strict=True)
    return np.concatenate([score(take_events(graph, mine, *without)) for mine, without in parts])
