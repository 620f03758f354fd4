"""Who says what was fraud."""

from __future__ import annotations

# The most trusted first; a later source is read only where no earlier one spoke.
LABEL_SOURCES = ("chargeback", "audit", "holdout", "reviewer")
