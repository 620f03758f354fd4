"""From validated files to the online store."""

from __future__ import annotations

import logging
import re
import shutil
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

from feature_repo.materialize import materialize
from feature_repo.settings import FeatureSettings

# How the step tells its progress to whoever reads its log: the pipeline's runner, or a person.
PROGRESS_LINE = re.compile(r"materialised (\w+): (\d+) of (\d+) rows$")

logger = logging.getLogger(__name__)


def publish_and_materialize(
    staged: Iterable[Path], settings: FeatureSettings, cutoff: datetime
) -> list[dict[str, str | int | None]]:
    """Makes files the offline store's own, then writes what is new or changed in them into the online store.

    Args:
        staged: folders laid out as Feast's offline files are.
        settings: the registry, the offline files and Redis.
        cutoff: rows published later stay out.

    Returns:
        For each view: `view`, `rows` written, `why` those, and when the `newest` row became usable (ISO 8601, None
        where nothing was ever published).

    Raises:
        FeatureRepoError: as `feature_repo.materialize.materialize` does.
    """
    for folder in staged:
        publish(folder, settings.offline)
    runs = materialize(settings, cutoff, _tell)
    return [
        {"view": r.view, "rows": r.rows, "why": r.why, "newest": r.newest.isoformat() if r.newest else None}
        for r in runs
    ]


def publish(staged: Path, offline: Path) -> None:
    """Copies staged files to their places in the offline store, each of them complete or not at all."""
    for file in sorted(staged.rglob("*.parquet")):
        target = offline / file.relative_to(staged)
        target.parent.mkdir(parents=True, exist_ok=True)
        pending = target.with_name(f".{target.name}.part")
        shutil.copyfile(file, pending)
        pending.rename(target)


def _tell(view: str, done: int, total: int) -> None:
    logger.info("materialised %s: %d of %d rows", view, done, total)
