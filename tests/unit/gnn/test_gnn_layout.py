"""What serving lays out for an event is, to the bit, what training lays out for it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from components.train_gnn.entity_graph import EntityLog
from components.train_gnn.replay import Layout
from feature_repo.event_batch import EventBatch
from feature_repo.event_schemas import SCORED_EVENT_TYPES
from feature_repo.graph_features import CONTEXT_FEATURES, neighbour_history
from inference_services.subgraph import Subgraph
from tests.parity.logs import Drawn, events, log_of, traffic_of
from tests.parity.week import KEY

LOGS = st.lists(events(), min_size=1, max_size=25)
NO_NODES = np.zeros(0, np.int64)
LAID_OUT = ("endpoint_kind", "endpoint_event", "neighbour_kind", "edge_index", "edge_features", "event_features")


def scored(table: pa.Table) -> np.ndarray:
    return np.flatnonzero([t in SCORED_EVENT_TYPES for t in table.column("event_type").to_pylist()])


def context_of(table: pa.Table) -> pd.DataFrame:
    """Values of `CONTEXT_FEATURES` that hang on the event's id alone, some unknown."""
    ids = table.column("event_id").to_pylist()
    values = np.array([np.random.default_rng(int(i[1:])).exponential(5, len(CONTEXT_FEATURES)) for i in ids])
    values[values < 0.5] = np.nan
    return pd.DataFrame(values, columns=list(CONTEXT_FEATURES)).assign(event_id=ids)


@settings(max_examples=60, deadline=None)
@given(LOGS)
def test_serving_lays_out_what_training_does(drawn: Sequence[Drawn]) -> None:
    table = log_of(traffic_of(drawn), KEY)
    rows, frame = scored(table), context_of(table)
    trained = Layout.of(EntityLog.read(table, None, frame.iloc[rows]), rows, NO_NODES).graph._asdict()
    batch = EventBatch.from_arrow(table)
    history, counts = neighbour_history(batch)
    features = {name: frame[name].to_numpy()[rows] for name in CONTEXT_FEATURES}
    served = Subgraph.build(batch.take(rows), features, history[rows], counts[rows]).tensors({})
    assert set(served) == set(LAID_OUT)
    for name in LAID_OUT:
        np.testing.assert_array_equal(served[name], trained[name].numpy(), err_msg=name, strict=True)


@settings(max_examples=60, deadline=None)
@given(LOGS, st.integers(0, 2**30))
def test_a_masked_event_has_no_graph_and_leaves_the_others_theirs(drawn: Sequence[Drawn], which: int) -> None:
    table = log_of(traffic_of(drawn), KEY)
    rows = scored(table)
    log, masked = EntityLog.read(table, None, context_of(table)), (which >> np.arange(len(rows)) % 30) & 1 == 1
    found = Layout.of(log, rows, NO_NODES, masked).graph._asdict()
    rest = Layout.of(log, rows[~masked], NO_NODES).graph._asdict()
    place = np.flatnonzero(~masked)
    for name in set(LAID_OUT) - {"event_features", "endpoint_event"}:
        np.testing.assert_array_equal(found[name].numpy(), rest[name].numpy(), err_msg=name, strict=True)
    np.testing.assert_array_equal(found["endpoint_event"].numpy(), place[rest["endpoint_event"].numpy()])
    np.testing.assert_array_equal(found["event_features"].numpy(), log.features[rows])


@settings(max_examples=60, deadline=None)
@given(LOGS)
def test_an_event_is_laid_out_as_in_a_log_that_ends_with_it(drawn: Sequence[Drawn]) -> None:
    whole = log_of(traffic_of(drawn), KEY)
    row = int(np.append(scored(whole), len(whole) - 1)[0])
    graphs = [
        Layout.of(EntityLog.read(table, None, context_of(table)), np.array([row]), NO_NODES).graph._asdict()
        for table in (whole, whole.slice(0, row + 1))
    ]
    for name in LAID_OUT:
        np.testing.assert_array_equal(*(graph[name].numpy() for graph in graphs), err_msg=name, strict=True)
