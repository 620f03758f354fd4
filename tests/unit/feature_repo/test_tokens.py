"""Token files: what is refused at the start, and what happens when one changes."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from feature_repo.errors import BadSettings
from feature_repo.tokens import TokenFile

OLD, NEW = "o" * 32, "n" * 40


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "tokens"
    path.write_text(OLD)
    return path


def header(token: str) -> bytes:
    return f"Bearer {token}".encode()


def rewrite(path: Path, content: str) -> None:
    """As Kubernetes changes a mounted secret: another file takes the name."""
    other = path.with_suffix(".new")
    other.write_text(content)
    os.replace(other, path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty"),
        ("\n \n", "is empty"),
        ("brief", "line 1 of .* is shorter than 32"),
        (f"{OLD}\n{'x' * 31}\n", "line 2 of .* is shorter than 32"),
        (f"# a comment\n{OLD}\n", "line 1 of the token file .* is not a token"),
        ("ش" * 40, "is not a token"),
    ],
)
def test_an_unusable_file_is_refused_without_repeating_it(content: str, message: str, path: Path):
    path.write_text(content, "utf-8")
    with pytest.raises(BadSettings, match=message) as caught:
        TokenFile(path)
    assert not content.strip() or content.strip() not in str(caught.value)


def test_a_missing_file_is_refused(tmp_path: Path):
    with pytest.raises(BadSettings, match="cannot be read: No such file"):
        TokenFile(tmp_path / "nowhere")


def test_any_of_several_tokens_is_accepted_and_nothing_else(path: Path):
    path.write_text(f"{OLD}\n\n{NEW}\n")
    tokens = TokenFile(path)
    assert tokens.accepts(header(OLD))
    assert tokens.accepts(b"bearer  " + NEW.encode())
    assert tokens.authorization() == f"Bearer {OLD}"
    for wrong in (
        b"",
        b"Bearer",
        b"Bearer ",
        header(OLD[:-1]),
        header(OLD + "x"),
        b"Basic " + OLD.encode(),
        b"\xff\xfe",
    ):
        assert not tokens.accepts(wrong)


def test_a_changed_file_counts_within_a_second(path: Path):
    clock = Clock()
    tokens = TokenFile(path, clock)
    rewrite(path, f"{NEW}\n{OLD}\n")
    assert not tokens.accepts(header(NEW))
    clock.now = 1.0
    assert tokens.accepts(header(NEW))
    assert tokens.accepts(header(OLD))
    rewrite(path, NEW)
    clock.now = 2.0
    assert not tokens.accepts(header(OLD))


@pytest.mark.parametrize("content", ["", "short", None])
def test_a_file_that_becomes_unusable_locks_nobody_out_and_is_told_once(
    content: str | None, path: Path, caplog: pytest.LogCaptureFixture
):
    clock = Clock()
    tokens = TokenFile(path, clock)
    if content is None:
        path.unlink()
    else:
        rewrite(path, content)
    with caplog.at_level(logging.WARNING, "fraud"):
        for clock.now in (1.0, 2.0, 3.0):
            assert tokens.accepts(header(OLD))
    assert len(caplog.records) == 1
    rewrite(path, NEW)
    clock.now = 4.0
    assert tokens.accepts(header(NEW))
    assert not tokens.accepts(header(OLD))
