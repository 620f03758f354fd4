"""Who says what was fraud."""

from __future__ import annotations

from feature_repo.labels import LABEL_SOURCES

__all__ = ["LABEL_SOURCES"]
