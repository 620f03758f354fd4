"""A decision's record holds what the models got and said, to the last bit, and only what this code can read is read."""

from __future__ import annotations

from typing import Any

import numpy as np
import orjson
import pytest

from feature_repo.feature_names import CATEGORICAL_FEATURES
from feature_repo.settings import EMBEDDING_DIM
from inference_services.errors import CorruptRecord
from inference_services.graph_parts import take_events
from inference_services.transformer.decision_batch import DecisionBatch
from inference_services.transformer.decision_record import SCHEMA, DecisionRecord
from tests.decision_samples import VERSION, decisions, graph


def read(batch: DecisionBatch) -> list[DecisionRecord]:
    return [DecisionRecord.from_json(line) for line in batch.encode()]


def test_numbers_come_back_as_the_models_got_and_gave_them():
    batch = decisions()
    for row, record in enumerate(read(batch)):
        found = record.features.by_name()
        for name, values in batch.features.items():
            assert np.array_equal(found[name], values[row], equal_nan=name not in CATEGORICAL_FEATURES), name
        assert batch.lightgbm is not None
        assert record.lightgbm_raw_score == batch.lightgbm.outputs["raw_score"][row]
        assert record.gnn_log_odds == batch.lightgbm.outputs["log_odds"][row]
        assert (record.alarm_offset, record.seen_sequence) == (batch.alarm_offset[row], batch.sequence[row])
        assert record.event == batch.batch.row(row)
        assert record.reasons == [{"text": "é"}]


def test_each_event_keeps_its_part_of_the_graph_bit_by_bit():
    batch = decisions()
    assert batch.graph is not None
    whole = {n.removesuffix(f"_{VERSION}"): v for n, v in batch.graph.items() if "ffff" not in n}
    for row, record in enumerate(read(batch)):
        assert record.graph is not None
        found, expected = record.graph.tensors(), take_events(whole, np.array([row]))
        assert found.keys() == expected.keys()
        for name, values in expected.items():
            assert found[name].dtype == values.dtype
            assert np.array_equal(found[name], values), name


def test_events_without_any_past_have_a_graph_of_endpoints_alone():
    record = read(decisions(graph=graph([2, 1, 3], [0] * 6)))[0]
    assert record.graph is not None
    tensors = record.graph.tensors()
    assert tensors["endpoint_embedding"].shape == (2, EMBEDDING_DIM)
    assert tensors["edge_index"].shape == (2, 0)


def test_models_that_are_gone_leave_nulls():
    for record in read(decisions(lightgbm=None, gnn=None)):
        assert (record.lightgbm_version, record.lightgbm_raw_score, record.lightgbm_log_odds) == (None, None, None)
        assert (record.gnn_version, record.graph) == (None, None)


def test_copies_share_an_id_and_two_decisions_about_one_event_do_not():
    first, second = decisions(), decisions()
    assert list(first.encode()) == list(first.encode())
    ids = [record.decision_id for batch in (first, second) for record in read(batch)]
    assert len(set(ids)) == len(ids) == 6


def test_a_record_reads_back_as_the_bytes_that_it_was():
    for line in decisions().encode():
        assert b"\n" not in line
        assert DecisionRecord.from_json(line).to_json() == line


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"schema": SCHEMA + 1}, "this code reads schema"),
        ({"decision": "perhaps"}, "decision of a decision"),
        ({"features": None}, "features of a decision"),
        ({"alarm_offset": "much"}, "alarm_offset of a decision"),
    ],
)
def test_a_record_of_another_form_is_refused(change: dict[str, Any], problem: str):
    found = orjson.loads(next(decisions().encode())) | change
    with pytest.raises(CorruptRecord, match=problem):
        DecisionRecord.from_json(orjson.dumps(found))


def test_what_is_not_json_is_refused():
    with pytest.raises(CorruptRecord, match="not JSON"):
        DecisionRecord.from_json(b'{"schema": 1')
