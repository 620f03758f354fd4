"""The graph network's score of one event: stored embeddings and stage 2, against both stages on what surrounds it.

A month of a simulated city is the graph, as of the last midnight. The peer does without stored embeddings: it takes
what lies within two hops of the event's entities and of their last interactions' (`k_hop_subgraph`), encodes that with
the whole network, and runs stage 2. Its edges keep their weights of the whole graph, so it is exact, and both sides'
scores are compared first. The weights are drawn, the scales fitted: neither changes what a score costs.

Reading the event's neighbourhood and embeddings from the store is no part of either side: see `online_reader.py`.
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from torch_geometric.utils import k_hop_subgraph

from components.train_gnn.entity_graph import DAY_US, EntityLog, Snapshot
from components.train_gnn.replay import Layout, encode, scored_rows
from feature_repo.event_log import read_log
from feature_repo.ingestion import ingest_files
from feature_repo.pseudonyms import Pseudonymiser
from inference_services.gnn_predictor.network import EventGraph, FraudGnn
from inference_services.gnn_predictor.scorer import EventScorer
from pipelines.report import Row
from simulators.ride_hailing import WorldSettings, simulate
from tests.benchmarks.gnn_peer import CooGraph
from tests.benchmarks.gnn_refresh import drawn_network
from tests.benchmarks.rounds import compare

DAYS, EVENTS_PER_DAY = 31, 4_000
_COMPARED, _CALLS = 100, 10
_HOPS = 2
_TOLERANCE, _LEAST_RATIO = 1e-6, 50.0
Tensors = dict[str, NDArray[np.generic]]


def run(days: int = DAYS, events_per_day: int = EVENTS_PER_DAY) -> list[Row]:
    """Compares the scores of the last day's events, then times both sides on one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with Console(stderr=True).status("simulating a month"), torch.no_grad():
            log = _city(days, events_per_day)
            day = int(log.arrival_day[-1])
            snapshot = log.snapshot(day * DAY_US, 30)
            return _measured(log, snapshot, scored_rows(log, [day])[day])
    finally:
        torch.set_num_threads(before)


def _city(days: int, events_per_day: int) -> EntityLog:
    with tempfile.TemporaryDirectory() as scratch:
        world, log = Path(scratch) / "world", Path(scratch) / "log"
        simulate(WorldSettings(days=days, events_per_day=events_per_day), world)
        ingest_files(world / "events", log, Pseudonymiser(b"a benchmark's key"))
        return EntityLog.read(read_log(log))


def _measured(log: EntityLog, snapshot: Snapshot, rows: NDArray[np.int64]) -> list[Row]:
    network = drawn_network(snapshot)
    network.event_scale.fit(torch.from_numpy(log.features[rows]))
    table, small, full = encode(network, snapshot), EventScorer(network), FullForward(network, snapshot)
    chosen = np.random.default_rng(0).choice(rows, _COMPARED, replace=False)
    layouts = [Layout.of(log, np.array([row]), snapshot.nodes) for row in chosen]
    requests = [_arrays(layout.embedded(table)) for layout in layouts]

    def by_torch(request: Tensors) -> NDArray[np.float64]:
        # As training does.
        graph = EventGraph(**{name: torch.from_numpy(values) for name, values in request.items()})
        scores: NDArray[np.float64] = network(graph).double().numpy()
        return scores

    exact = np.concatenate([full(layout) for layout in layouts])
    apart = max(
        float(np.abs(np.concatenate([score(r) for r in requests]) - exact).max()) for score in (small, by_torch)
    )
    assert apart <= _TOLERANCE, f"the scores are up to {apart:g} from those of the full network"
    assert exact.std() > 100 * _TOLERANCE
    ours, peer = _next(small, requests), _next(full, layouts)
    found = compare(ours, peer, _CALLS)
    torch_alone = compare(ours, _next(by_torch, requests), 20 * _CALLS)
    name = f"graph score of 1 event among {len(snapshot.nodes):,} entities and {snapshot.edge_index.shape[1]:,} edges"
    return [
        Row(f"{name}, ours", torch_alone.ours_s * 1e6, "us"),
        Row(f"{name}, stage 2 in torch", torch_alone.peer_s * 1e6, "us"),
        Row("stage 2 in numpy against torch", torch_alone.ratio, "times"),
        Row(f"{name}, k_hop_subgraph and the full network", found.peer_s * 1e3, "ms"),
        Row(f"largest difference of {_COMPARED} scores", apart, "", f"at most {_TOLERANCE:g}", True),
        Row(
            "graph score of 1 event against the full network",
            found.ratio,
            "times",
            f"at least {_LEAST_RATIO:g}",
            found.ratio >= _LEAST_RATIO,
        ),
    ]


class FullForward:
    """Scores an event by both stages of the network, on what lies within two hops of what the event shows."""

    def __init__(self, network: FraudGnn, snapshot: Snapshot) -> None:
        self._network, self._coo = network, CooGraph.of(snapshot)

    def __call__(self, layout: Layout) -> NDArray[np.float64]:
        """Returns the raw score, [1]."""
        m = len(self._coo.x)
        shown = torch.cat([layout.endpoint, layout.neighbour])
        nodes, edge_index, _, edges = k_hop_subgraph(
            shown[shown < m].unique(), _HOPS, self._coo.edge_index, relabel_nodes=True, num_nodes=m
        )
        embedding = self._network.encode(self._coo.part(nodes, edge_index, edges).graph())
        # Where each node of the whole graph is among those; the last place is that of nobody.
        place = torch.full((m + 1,), len(nodes))
        place[nodes] = torch.arange(len(nodes))
        near = Layout(layout.graph, place[layout.endpoint], place[layout.neighbour])
        scores: NDArray[np.float64] = self._network(near.embedded(embedding)).double().numpy()
        return scores


def _arrays(graph: EventGraph) -> Tensors:
    return {name: values.numpy() for name, values in graph._asdict().items()}


def _next(score: Callable[[Any], object], requests: Sequence[Any]) -> Callable[[], object]:
    turn = itertools.cycle(requests)
    return lambda: score(next(turn))
