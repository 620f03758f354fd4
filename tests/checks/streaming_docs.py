"""`python -m tests.checks.streaming_docs`: writes the table of docs/streaming.md that follows from the settings."""

from __future__ import annotations

from pathlib import Path

from feature_repo.ingestion_service.settings import IngestionSettings
from tests.checks.docs_tables import with_tables
from tests.checks.serving_docs import settings_table

PAGE = Path(__file__).parents[2] / "docs" / "streaming.md"


def tables() -> dict[str, str]:
    """Markdown tables by the name of their place in the page."""
    return {"ingestion settings": settings_table(IngestionSettings)}


if __name__ == "__main__":
    PAGE.write_text(with_tables(PAGE.read_text("utf-8"), tables()), "utf-8")
