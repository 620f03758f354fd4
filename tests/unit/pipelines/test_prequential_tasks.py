"""What was finished is not done again, and what was cut off is."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.prequential.tasks import Task, code_digest, perform_all


def write(text: str, out: Path) -> None:
    out.write_text(text)


def break_off(out: Path) -> None:
    out.write_text("half")
    raise RuntimeError("cut off")


def test_a_run_that_was_interrupted_goes_on_where_it_stopped(tmp_path: Path) -> None:
    first, second, third = (tmp_path / "made" / name for name in "abc")
    with pytest.raises(RuntimeError, match="cut off"):
        perform_all([Task(first, write, ("1",)), Task(second, break_off, ())], 1, lambda *_: None)
    assert not second.exists(), "half a file is no file"
    seen: list[tuple[int, int]] = []
    again = [Task(first, break_off, ()), Task(second, write, ("2",)), Task(third, write, ("3",))]
    perform_all(again, 1, lambda done, total: seen.append((done, total)))
    assert [p.read_text() for p in (first, second, third)] == ["1", "2", "3"]
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_processes_of_their_own_make_the_same(tmp_path: Path) -> None:
    tasks = [Task(tmp_path / name, write, (name,)) for name in "ab"]
    perform_all(tasks, 2, lambda *_: None)
    assert [(tmp_path / name).read_text() for name in "ab"] == ["a", "b"]


def test_other_code_has_another_digest() -> None:
    assert code_digest("pipelines/prequential") != code_digest("pipelines/prequential", "feature_repo")
