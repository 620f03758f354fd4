"""What batch features must be before they reach the online store."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from components.errors import InvalidFeatures
from components.frame_checks import check_frame
from components.validate_features.schema import HIDDEN, view_frame, view_schema
from components.volumes import Volumes, VolumeSettings, compare_volumes
from feature_repo.definitions import embedding_versions
from feature_repo.errors import MissingData
from feature_repo.event_log import read_parquet
from feature_repo.settings import EMBEDDING_DIM
from feature_repo.views import embedding_views, profile_views


def check_features(
    profiles: Path, embeddings: Path, published: Path, cutoff: datetime, settings: VolumeSettings
) -> dict[str, dict[str, Any]]:
    """Checks the rows of every batch view, and how many there are against what is published.

    Args:
        profiles: folder laid out as Feast's offline files, with the profile views' files.
        embeddings: the same, with the embedding views' files.
        published: Feast's offline files, as the previous run left them.
        cutoff: no row may be published later.
        settings: how far volumes may be from the previous run's.

    Returns:
        By view: `rows`, and in words what its `volumes` were compared with.

    Raises:
        MissingData: a view has no file.
        CorruptValue: a file cannot be read.
        InvalidFeatures: a check failed; the message names the view, the column, the rule and a row.
    """
    found = {}
    for folder, view in _views(profiles, embeddings):
        file = Path(view.batch_source.path)
        if not file.exists():
            raise MissingData(f"no file {file} for the view {view.name}: the step before did not write it")
        table = read_parquet(file)
        check_frame(view_frame(table), view_schema(view, cutoff), InvalidFeatures, hidden=HIDDEN)
        stamp = view.batch_source.timestamp_field
        before = _published(published / file.relative_to(folder), stamp, cutoff)
        compared = compare_volumes(
            _volumes(view.name, table, stamp),
            _volumes(view.name, before, stamp) if before is not None else None,
            settings,
            unit="view",
            previous_name="the published file",
        )
        if compared.breaches:
            raise InvalidFeatures(f"{compared.text}: " + "; ".join(compared.breaches))
        found[view.name] = {"rows": table.num_rows, "volumes": compared.text}
    return found


def _views(profiles: Path, embeddings: Path) -> Iterable[tuple[Path, Any]]:
    """Each batch view over the files of its folder."""
    yield from ((profiles, view) for view in profile_views(profiles))
    for version in embedding_versions(embeddings):
        yield from ((embeddings, view) for view in embedding_views(embeddings, version, EMBEDDING_DIM))


def _published(file: Path, stamp: str, cutoff: datetime) -> pa.Table | None:
    """What the previous run published of a view, None for nothing."""
    if not file.exists():
        return None
    table = read_parquet(file)
    newest = pc.max(table.column(stamp)).as_py()
    if newest is not None and newest > cutoff:
        raise InvalidFeatures(
            f"{file} has rows that were published at {newest:%Y-%m-%d %H:%M}, after this cutoff, and neither it nor "
            "the online store goes back: choose a later cutoff"
        )
    return table


def _volumes(view: str, table: pa.Table, stamp: str) -> Volumes:
    counts = pc.value_counts(pc.cast(table.column(stamp), pa.date32()))
    return {(view, row["values"]): row["counts"] for row in counts.to_pylist()}
