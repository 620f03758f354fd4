"""Staged files reach the offline store whole or not at all; what happens in Redis is tested with the whole pipeline."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from components.materialize_features.logic import PROGRESS_LINE, publish


def staged(root: Path, **files: str) -> Path:
    for name, content in files.items():
        file = root / f"{name.replace('__', '/')}.parquet"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
    return root


def test_files_take_their_places_and_replace_those_of_the_run_before(tmp_path: Path) -> None:
    offline = staged(tmp_path / "offline", rider_profile="old", city_profile="kept")
    publish(staged(tmp_path / "new", rider_profile="new", embeddings__v1__rider="vectors"), offline)
    found = {str(f.relative_to(offline)): f.read_text() for f in offline.rglob("*") if f.is_file()}
    assert found == {
        "rider_profile.parquet": "new",
        "city_profile.parquet": "kept",
        "embeddings/v1/rider.parquet": "vectors",
    }


def test_a_copy_that_is_cut_off_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    offline = staged(tmp_path / "offline", rider_profile="old")

    def half(_: Path, target: Path) -> None:
        target.write_text("ne")
        raise OSError("no space left on device")

    new = staged(tmp_path / "new", rider_profile="new")
    monkeypatch.setattr(shutil, "copyfile", half)
    with pytest.raises(OSError, match="no space"):
        publish(new, offline)
    assert (offline / "rider_profile.parquet").read_text() == "old"
    assert list(offline.glob("*.parquet")) == [offline / "rider_profile.parquet"]
    monkeypatch.undo()
    publish(new, offline)
    assert [f.read_text() for f in offline.iterdir()] == ["new"]


def test_the_runner_reads_the_line_that_tells_progress() -> None:
    found = PROGRESS_LINE.search("INFO materialised rider_profile: 20 of 400 rows")
    assert found is not None
    assert found.groups() == ("rider_profile", "20", "400")
