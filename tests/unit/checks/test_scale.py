"""The comparison of two stores sees a single byte, and a machine without Spark is told so."""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd
import pytest
import redis

from tests.checks import scale
from tests.checks.scale_spark import cells_that_differ
from tests.checks.stored_hashes import Difference, compare_hashes, stored_hashes, unexpiring
from tests.redis_servers import redis_cluster

STORE = {b"rider": {b"trips": b"\x20\x07", b"_ts": b"\x08\x01"}, b"driver": {b"trips": b"\x20\x00"}}


@pytest.mark.parametrize(
    ("theirs", "expected"),
    [
        (STORE, Difference(2, 3, 0, 0)),
        ({**STORE, b"driver": {b"trips": b"\x20\x01"}}, Difference(2, 3, 0, 1)),
        ({**STORE, b"driver": {}}, Difference(2, 3, 0, 1)),
        ({**STORE, b"driver": {b"trips": b"\x20\x00", b"more": b""}}, Difference(2, 4, 0, 1)),
        ({b"rider": STORE[b"rider"]}, Difference(2, 3, 1, 1)),
        ({**STORE, b"device": {b"trips": b"\x20\x01"}}, Difference(3, 4, 1, 1)),
    ],
    ids=["same", "byte", "no field", "one field more", "no entity", "one entity more"],
)
def test_a_difference_is_counted(theirs: dict[bytes, dict[bytes, bytes]], expected: Difference) -> None:
    assert compare_hashes(STORE, theirs) == expected
    assert compare_hashes(theirs, STORE) == expected


def test_a_cluster_is_read_whole_and_without_the_streams(redis_url: str, tmp_path: Path) -> None:
    entities = {b"\x01entity-%d" % number: {b"f": b"%d" % number} for number in range(50)}
    with (
        redis.Redis.from_url(redis_url) as one,
        redis_cluster(tmp_path) as nodes,
        redis.RedisCluster("127.0.0.1", nodes[0].port) as many,
    ):
        for client in (one, many):
            client.set("{fraud}:stream_seq", 7)
            for key, values in entities.items():
                client.hset(key, mapping=dict(values))
                client.expire(key, 100)
        assert stored_hashes(one) == stored_hashes(many) == entities
        assert all(node.client.dbsize() for node in nodes)
        many.persist(b"\x01entity-3")
        many.expire(b"\x01entity-4", 1000)
        assert unexpiring(many, 100) == 2


def test_the_join_is_compared_cell_by_cell() -> None:
    ours = pd.DataFrame({"event_id": ["a", "b"], "x": [1.0, None], "y": [0, 3]})
    assert cells_that_differ(ours, ours[["y", "x", "event_id"]]) == 0
    assert cells_that_differ(ours, ours.assign(x=[1.0, 0.0])) == 1
    assert cells_that_differ(ours, ours.assign(y=[1, 4])) == 2
    assert cells_that_differ(ours, ours.head(1)) == ours.size
    assert cells_that_differ(ours, ours.drop(columns="y")) == ours.size


def test_without_java_the_check_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setattr(sys, "argv", ["scale", "--out", str(tmp_path / "report.json")])
    assert scale.main() == 2
    assert "Java 17" in capsys.readouterr().out
    assert not (tmp_path / "report.json").exists()
