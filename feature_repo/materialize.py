"""Copies batch features and embeddings into the online store with Feast."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import redirect_stdout
from datetime import UTC, datetime, timedelta
from io import StringIO

from feature_repo.settings import FeatureSettings


def materialize(settings: FeatureSettings, until: datetime, progress: Callable[[int, int], None] | None = None) -> int:
    """Applies the definitions and materialises every batch view's latest rows published by `until`.

    Args:
        settings: the registry, the files and Redis.
        until: rows published later stay out.
        progress: called with (views done, views in all).

    Returns:
        How many views were written.
    """
    from feast import FeatureStore  # noqa: PLC0415 - a heavy import

    from feature_repo.definitions import definitions, embedding_versions  # noqa: PLC0415
    from feature_repo.settings import EMBEDDING_DIM  # noqa: PLC0415
    from feature_repo.views import embedding_views, profile_views  # noqa: PLC0415

    settings.registry.parent.mkdir(parents=True, exist_ok=True)
    store = FeatureStore(config=settings.repo_config())
    store.apply(definitions(settings.offline.absolute()))
    views = profile_views(settings.offline)
    for version in embedding_versions(settings.offline):
        views += embedding_views(settings.offline, version, EMBEDDING_DIM)
    start = datetime(1970, 1, 2, tzinfo=UTC)
    for done, view in enumerate(views, 1):
        # Feast takes rows up to and including its end; a row published at `until` is usable at `until`.
        with redirect_stdout(StringIO()), warnings.catch_warnings():  # Feast prints a line and a bar of its own
            warnings.simplefilter("ignore", DeprecationWarning)
            store.materialize(start, until + timedelta(microseconds=1), feature_views=[view.name])
        if progress:
            progress(done, len(views))
    return len(views)
