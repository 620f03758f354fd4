"""docs/decisions.md agrees with the record, the log's columns and the sink's settings."""

from __future__ import annotations

from dataclasses import fields

from inference_services.transformer.decision_record import DecisionRecord
from tests.checks.decision_docs import PAGE, tables
from tests.checks.docs_tables import with_tables


def test_the_tables_are_those_of_the_code() -> None:
    text = PAGE.read_text("utf-8")
    assert text == with_tables(text, tables()), "run `python -m tests.checks.decision_docs`"
    assert all(f"| `{field.name}` |" in text for field in fields(DecisionRecord))
    assert "`FRAUD_DECISION_LOG_FOLDER`" in text
