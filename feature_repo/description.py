"""What a feature means: one record for Feast's registry, for docs/features.md and for the reader of the code."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Description:
    """One feature, described beside its definition and nowhere else.

    Attributes:
        text: what is counted or measured.
        unit: of the value.
        missing: the value where there is nothing to measure. A store that is down is another matter: every feature
            that is read from it is NaN then.
    """

    text: str
    unit: str
    missing: str

    def __str__(self) -> str:
        return f"{self.text}. Unit: {self.unit}. Missing: {self.missing}."
