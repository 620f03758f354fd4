"""docs/simulator.md agrees with the code."""

from __future__ import annotations

from components.evaluate.rules import RULES
from simulators.ride_hailing import WorldSettings
from simulators.ride_hailing.settings import TYPOLOGIES
from tests.checks.docs_tables import PAGE, tables, with_tables
from tests.conftest import ROOT


def test_the_tables_are_those_of_the_code() -> None:
    text = PAGE.read_text("utf-8")
    assert text == with_tables(text, tables()), "run `python -m tests.checks.docs_tables`"
    assert all(f"`{name}`" in tables()["settings"] for name in WorldSettings.model_fields)


def test_numbers_written_as_words_are_right() -> None:
    text = PAGE.read_text("utf-8")
    assert "in ten ways" in text
    assert len(TYPOLOGIES) == 10
    assert "fourteen rules" in text
    assert len(RULES) == 14


def test_named_targets_exist() -> None:
    targets = (ROOT / "Makefile").read_text()
    for target in ("check-simulator", "check-world", "bench-simulator"):
        assert f"`make {target}`" in PAGE.read_text("utf-8")
        assert f"\n{target}: " in targets
