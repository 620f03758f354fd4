"""Compares how many rows there are with how many there were in the previous run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date

from pydantic import BaseModel, ConfigDict, Field

# Rows by group and day.
Volumes = dict[tuple[str, date], int]
FIRST_RUN = "nothing to compare with: this is the first"


class VolumeSettings(BaseModel):
    """How far the number of rows may move between two runs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    least_share: float = Field(
        0.33, ge=0, le=1, description="Rows of new days, at least, as a share of as many days of the previous run."
    )
    most_share: float = Field(3.0, ge=1, description="Rows of new days, at most, as a share of the same.")
    most_lost: float = Field(0.01, ge=0, le=1, description="Share of a day's rows that may be gone since.")
    least_expected: float = Field(30, ge=1, description="Fewer rows than this are not judged: they may vary by chance.")


@dataclass(frozen=True, slots=True)
class Comparison:
    """What came of comparing two runs.

    Attributes:
        text: in words what was compared with what.
        breaches: in words what moved too far; empty when nothing did.
    """

    text: str
    breaches: list[str]


def compare_volumes(
    current: Volumes, previous: Volumes | None, settings: VolumeSettings, *, unit: str, previous_name: str
) -> Comparison:
    """Compares rows by group and day with the previous run's.

    A day of the previous run must not have shrunk or gone, unless it is from before this run's first: history does not.
    The days that are new must have about as many rows a day as the previous run had on average.

    Args:
        current: rows of this run.
        previous: rows of the previous run; None when there was none.
        settings: the tolerances.
        unit: what a group is, for the message, such as "event_type".
        previous_name: the previous run, for the message.
    """
    if not previous:
        return Comparison(FIRST_RUN, [])
    breaches = [*_shrunk(current, previous, settings, unit), *_moved(current, previous, settings, unit)]
    return Comparison(f"compared with {previous_name}", breaches)


def _shrunk(current: Volumes, previous: Volumes, settings: VolumeSettings, unit: str) -> Iterator[str]:
    first = min(_days(current), default=date.min)
    for (group, day), before in previous.items():
        now = current.get((group, day), 0)
        if day >= first and now < (1 - settings.most_lost) * before:
            yield f"{unit} {group!r} has {now:,} rows on {day}, and had {before:,} in the previous run"


def _moved(current: Volumes, previous: Volumes, settings: VolumeSettings, unit: str) -> Iterator[str]:
    known = _days(previous)
    new = sorted(_days(current) - known)
    for group, before in _totals(previous, known).items():
        expected = before / len(known) * len(new)
        if expected < settings.least_expected:
            continue
        now = _totals(current, set(new)).get(group, 0)
        if not settings.least_share * expected <= now <= settings.most_share * expected:
            yield (
                f"{unit} {group!r} has {now:,} rows on the {len(new)} new days from {new[0]}, where the previous run's "
                f"daily average makes {expected:,.0f}; {settings.least_share:g} to {settings.most_share:g} times that "
                "is allowed"
            )


def _days(volumes: Volumes) -> set[date]:
    return {day for _, day in volumes}


def _totals(volumes: Volumes, days: set[date]) -> dict[str, int]:
    totals: dict[str, int] = {}
    for (group, day), rows in volumes.items():
        if day in days:
            totals[group] = totals.get(group, 0) + rows
    return totals
