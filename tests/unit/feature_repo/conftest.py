from __future__ import annotations

from pathlib import Path

import pytest

from feature_repo.ingestion import ingest_files
from feature_repo.pseudonyms import Pseudonymiser
from tests.unit.feature_repo.shop import Shop


@pytest.fixture(scope="session")
def small_log(small_world: Path, pseudonymiser: Pseudonymiser, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The event log of the small world's first ten days."""
    log = tmp_path_factory.mktemp("log") / "event_log"
    ingest_files(small_world / "events", log, pseudonymiser, days=10)
    return log


@pytest.fixture
def shop(small_log: Path, redis_url: str, tmp_path: Path) -> Shop:
    """A feature store over the small log, with nothing published."""
    return Shop(small_log, redis_url, tmp_path)
