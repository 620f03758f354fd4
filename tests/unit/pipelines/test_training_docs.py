"""docs/models.md agrees with the pipelines' code."""

from __future__ import annotations

from pipelines.settings import KfpSettings
from tests.checks.docs_tables import with_tables
from tests.checks.training_docs import PAGE, tables


def test_the_tables_are_those_of_the_code() -> None:
    text = PAGE.read_text("utf-8")
    assert text == with_tables(text, tables()), "run `python -m tests.checks.training_docs`"
    assert all(f"`FRAUD_KFP_{name.upper()}`" in text for name in KfpSettings.model_fields)
