"""Every client gets the same answer from each of the three services, over REST and gRPC, in JSON and in binary."""

from __future__ import annotations

import re

import numpy as np
import pytest

from tests.contract.conftest import Target
from tests.contract.v2_clients import CLIENTS, TRITON_GRPC, Client, Refused, Reply, kserve_rest_json


@pytest.fixture(params=[*CLIENTS, TRITON_GRPC])
def client(request: pytest.FixtureRequest) -> Client:
    found: Client = CLIENTS.get(request.param) or request.getfixturevalue(TRITON_GRPC)
    return found


def assert_same(found: Reply, wanted: Reply) -> None:
    assert list(found.outputs) == list(wanted.outputs)
    for name, values in wanted.outputs.items():
        if isinstance(values[0], str):
            assert found.outputs[name] == values
        else:
            np.testing.assert_allclose(found.outputs[name], values, rtol=1e-12, err_msg=name)


def test_a_batch_gets_the_same_answer_by_every_client(target: Target, client: Client):
    reply = client(target, target.rows(3))
    assert (reply.model_name, reply.model_version) == (target.name, target.version)
    assert tuple(reply.outputs) == target.outputs
    assert {len(values) for values in reply.outputs.values()} == {3}
    assert_same(reply, kserve_rest_json(target, target.rows(3)))


def test_only_the_requested_outputs_come_in_the_order_asked_for(target: Target, client: Client):
    asked = tuple(reversed((*target.outputs, *target.optional)))[:3]
    reply = client(target, target.rows(2), asked)
    assert tuple(reply.outputs) == asked
    assert_same(reply, kserve_rest_json(target, target.rows(2), asked))


def test_the_id_is_echoed(target: Target, client: Client):
    assert client(target, target.rows(1), request_id="order 66/ä").id == "order 66/ä"


def test_an_id_is_made_where_the_request_has_none(target: Target, client: Client):
    ids = {client(target, target.rows(1)).id for _ in range(2)}
    assert len(ids) == 2
    assert all(re.fullmatch(r"[0-9a-f-]{32,36}", made) for made in ids)


def test_an_unknown_output_is_refused_and_the_known_ones_named(target: Target, client: Client):
    with pytest.raises(Refused, match="output 'fame' does not exist") as caught:
        client(target, target.rows(1), (target.outputs[0], "fame"))
    assert caught.value.status in {"400", "INVALID_ARGUMENT"}
    assert target.outputs[0] in caught.value.message


def test_a_missing_tensor_is_refused_by_name(target: Target, client: Client):
    rows = target.rows(2)
    first = next(iter(rows))
    del rows[first]
    with pytest.raises(Refused, match=f"'{first}' is (missing|required)") as caught:
        client(target, rows)
    assert caught.value.status in {"400", "INVALID_ARGUMENT"}


def test_the_largest_batch_is_answered(target: Target):
    for client in (CLIENTS["triton_http_binary"], CLIENTS["kserve_grpc_raw"]):
        reply = client(target, target.rows(1024), (target.outputs[0],))
        assert len(reply.outputs[target.outputs[0]]) == 1024
