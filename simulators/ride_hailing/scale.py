"""How many days, and how many events a day, make a world of a given number of events."""

from __future__ import annotations

# A day of this many events has a few of every kind of fraud; more days are worth more than busier ones, up to a season.
_BUSY_DAY = 1000
_LONGEST = 120


def days_and_volume(events: int) -> tuple[int, int]:
    """Days, and events a day, that give about `events` in all: at least two days, at most 120."""
    days = min(max(events // _BUSY_DAY, 2), _LONGEST)
    return days, round(events / days)
