"""The daily refresh of the embeddings: 100,000 entities, 1,000,000 edges, against PyG's message passing over COO edges.

The log is synthetic: riders with devices and payment instruments of their own, and drivers whom they meet by chance, a
few of them far more often than most. Both sides start at one snapshot of it; the network is that of the application,
its weights drawn, its scales fitted on the snapshot. The embeddings are first compared. A round lays the graph out
(sparse matrices here, weights of edges there) and encodes it.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import pyarrow as pa
import torch

from components.train_gnn.entity_graph import DAY_US, NODE_FEATURES, EntityLog, Snapshot
from components.train_gnn.replay import embed_snapshot
from components.train_gnn.settings import GnnSettings
from feature_repo.event_schemas import EVENT_TYPES
from feature_repo.labels import no_labels
from feature_repo.pseudonyms import ENTITY_KINDS, format_pseudonym
from inference_services.gnn_predictor.network import FraudGnn, GnnConfig
from pipelines.report import Row
from tests.benchmarks.gnn_peer import CooGraph
from tests.benchmarks.rounds import ROUNDS, compared, in_turn

RIDERS, DRIVERS, DEVICES, INSTRUMENTS = 40_000, 10_000, 30_000, 20_000
EVENTS = 450_000
_DAYS = 30
_START_US = 20_500 * DAY_US
_TOLERANCE = 1e-5
_LEAST_RATIO, _MOST_S = 2.0, 30.0


def run(scale: float = 1.0) -> list[Row]:
    """Compares the embeddings, then times both sides on one thread and on two; `scale` shrinks the graph."""
    events = made_log(scale)
    log = EntityLog.read(events)
    as_of = _START_US + _DAYS * DAY_US
    snapshot = log.snapshot(as_of, _DAYS)
    network = drawn_network(snapshot)
    before = torch.get_num_threads()
    try:
        rows = [Row("embedding refresh, entities", len(snapshot.nodes)), Row("edges", snapshot.edge_index.shape[1])]
        with torch.no_grad():
            rows += _against_peer(network, snapshot)
        took = _seconds(lambda: embed_snapshot(network, events, no_labels(), as_of))
        part = _seconds(lambda: log.snapshot(as_of, _DAYS))
    finally:
        torch.set_num_threads(before)
    rows += [
        Row("embedding refresh, of which the snapshot", part, "s"),
        Row("whole embedding refresh, from the log", took, "s", f"at most {_MOST_S:g}", took <= _MOST_S),
    ]
    return rows


def _against_peer(network: FraudGnn, snapshot: Snapshot) -> list[Row]:
    graph, coo = snapshot.graph(), CooGraph.of(snapshot).graph()
    apart = float((network.encode(graph) - network.encode(coo)).abs().max())
    assert apart <= _TOLERANCE, f"the embeddings of both sides are {apart:g} apart"
    rows = [Row("largest difference to PyG's embeddings", apart, "", f"at most {_TOLERANCE:g}", True)]
    for threads in (1, 2):
        torch.set_num_threads(threads)
        sides = [
            lambda: network.encode(snapshot.graph()),
            lambda: network.encode(CooGraph.of(snapshot).graph()),
            lambda: network.encode(graph),
            lambda: network.encode(coo),
        ]
        timed = [partial(_seconds, side) for side in sides]
        in_turn(1, *timed)
        ours, peer, our_encode, peer_encode = in_turn(ROUNDS, *timed)
        whole, encode = compared(ours, peer), compared(our_encode, peer_encode)
        name = f"{threads} thread{'s' * (threads > 1)}"
        met = whole.ratio >= _LEAST_RATIO
        rows += [
            Row(f"layout and encoding, {name}", statistics.median(ours), "s"),
            Row(f"the same with PyG's COO edge index, {name}", whole.peer_s, "s"),
            Row(f"encoding alone, {name}", encode.ratio, "times"),
            Row(f"embedding refresh against PyG, {name}", whole.ratio, "times", f"at least {_LEAST_RATIO:g}", met),
        ]
    return rows


def made_log(scale: float = 1.0) -> pa.Table:
    """An event log of 30 days, in stream order."""
    rng = np.random.default_rng(0)
    n = int(EVENTS * scale)
    sizes = [max(2, int(size * scale)) for size in (RIDERS, DRIVERS, DEVICES, INSTRUMENTS)]
    rider = rng.integers(0, sizes[0], n)
    # The share of drivers and riders that meet by chance falls like a power law.
    driver = (sizes[1] * rng.random(n) ** 2).astype(np.int64)
    device = (rider * 7 + rng.integers(0, 2, n)) % sizes[2]
    instrument = (rider * 3 + rng.integers(0, 2, n)) % sizes[3]
    at = np.sort(rng.integers(_START_US, _START_US + _DAYS * DAY_US, n))
    columns = {
        "event_id": pa.array(np.arange(n)).cast(pa.string()),
        "event_type": pa.array(np.array(EVENT_TYPES)[rng.integers(0, len(EVENT_TYPES), n)]),
        "event_timestamp": pa.array(at).cast(pa.timestamp("us", "UTC")),
        "ingested_at": pa.array(at).cast(pa.timestamp("us", "UTC")),
        "amount": pa.array(rng.integers(0, 10**6, n)),
        "stream_seq": pa.array(np.arange(n)),
    }
    for kind, numbers, size in zip(ENTITY_KINDS, (rider, driver, device, instrument), sizes, strict=True):
        names = pa.array([format_pseudonym(kind, 1, number) for number in range(size)])
        columns[f"{kind}_id"] = names.take(pa.array(numbers))
    return pa.table(columns)


def drawn_network(snapshot: Snapshot) -> FraudGnn:
    """The application's network with random weights, and scales that fit a snapshot."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = FraudGnn(GnnConfig(node_features=NODE_FEATURES, hidden=GnnSettings().hidden))
    network.node_scale.fit(torch.from_numpy(snapshot.x))
    network.edge_scale.fit(snapshot.graph().edge_means)
    return network.eval()


def _seconds(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started
