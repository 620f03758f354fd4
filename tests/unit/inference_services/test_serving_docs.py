"""docs/serving.md agrees with the services' settings."""

from __future__ import annotations

from tests.checks.docs_tables import with_tables
from tests.checks.serving_docs import PAGE, tables


def test_the_tables_are_those_of_the_code() -> None:
    text = PAGE.read_text("utf-8")
    assert text == with_tables(text, tables()), "run `python -m tests.checks.serving_docs`"
    assert "`FRAUD_TRANSFORMER_BREAKER_FAILURES`" in text
    assert "`FRAUD_SERVER_DRAIN_S`" in text
