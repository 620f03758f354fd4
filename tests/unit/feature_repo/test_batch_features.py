"""The offline features of a log."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from feature_repo import batch_features
from feature_repo.batch_features import write_batch_features
from feature_repo.event_log import read_log
from feature_repo.labels import no_labels
from feature_repo.tiles import ACTIVITY_KINDS


@pytest.mark.parametrize("kind", ACTIVITY_KINDS)
def test_the_self_join_gives_the_same_however_few_pairs_go_at_once(
    small_log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    log = read_log(small_log).slice(0, 2000)
    monkeypatch.setattr(batch_features, "ACTIVITY_KINDS", {kind: ACTIVITY_KINDS[kind]})
    write_batch_features(log, no_labels(), tmp_path / "one")
    monkeypatch.setattr(batch_features, "_PAIRS_AT_ONCE", 700)
    write_batch_features(log, no_labels(), tmp_path / "many")
    one, many = (
        pq.read_table(tmp_path / name / f"{kind}_activity_history.parquet").sort_by("event_id")
        for name in ("one", "many")
    )
    assert len(one) > 300
    assert one.equals(many)
