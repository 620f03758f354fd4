from __future__ import annotations

from pathlib import Path

import pytest

from feature_repo.ingestion import ingest_files
from feature_repo.pseudonyms import Pseudonymiser


@pytest.fixture(scope="session")
def small_log(small_world: Path, pseudonymiser: Pseudonymiser, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The event log of the small world's first ten days."""
    log = tmp_path_factory.mktemp("log") / "event_log"
    ingest_files(small_world / "events", log, pseudonymiser, days=10)
    return log
