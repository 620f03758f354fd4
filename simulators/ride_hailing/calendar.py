"""Which days are unlike others in Iran: the day of rest, public holidays, and the two weeks of Nowruz."""

from __future__ import annotations

from datetime import date, timedelta

from simulators.ride_hailing.schedule import Schedule
from simulators.ride_hailing.settings import WorldSettings

# Trips of a weekday, Monday first; Friday is the day of rest and Thursday half of one.
_WEEKDAY_LEISURE = (0.95, 0.95, 1.0, 1.25, 1.35, 1.0, 0.95)
_WEEKDAY_COMMUTE = (1.0, 1.0, 1.0, 0.55, 0.05, 1.0, 1.0)
_HOLIDAY_LEISURE, _HOLIDAY_COMMUTE = 1.2, 0.05
_NOWRUZ_LEISURE, _NOWRUZ_COMMUTE, _NOWRUZ_TRAVEL = 1.15, 0.25, 6.0
# Of the solar calendar, whose days move by at most one against the Gregorian one: 22 Bahman, 14 and 15 Khordad.
_PUBLIC_HOLIDAYS = ((2, 11), (6, 4), (6, 5))


class Calendar:
    """What the days of one world are like; planned holidays (schedule.py) count as public ones."""

    def __init__(self, settings: WorldSettings) -> None:
        self._first = settings.first_day
        self._schedule = Schedule(settings)

    def nowruz(self, day: int) -> bool:
        """Whether the day lies between 20 March and 2 April, when the country is on holiday and on the road."""
        today = self._date(day)
        return date(today.year, 3, 20) <= today <= date(today.year, 4, 2)

    def leisure(self, day: int) -> float:
        """Trips of no fixed hour, against an ordinary day."""
        if self.nowruz(day):
            return _NOWRUZ_LEISURE
        return _HOLIDAY_LEISURE if self._holiday(day) else _WEEKDAY_LEISURE[self._date(day).weekday()]

    def commute(self, day: int) -> float:
        """Trips to and from work, against an ordinary day."""
        if self._holiday(day):
            return _HOLIDAY_COMMUTE
        usual = _WEEKDAY_COMMUTE[self._date(day).weekday()]
        return min(usual, _NOWRUZ_COMMUTE) if self.nowruz(day) else usual

    def travel(self, day: int) -> float:
        """Departures to other cities, against an ordinary day."""
        return _NOWRUZ_TRAVEL if self.nowruz(day) else 1.0

    def _holiday(self, day: int) -> bool:
        today = self._date(day)
        return (today.month, today.day) in _PUBLIC_HOLIDAYS or self._schedule.holiday(day)

    def _date(self, day: int) -> date:
        return self._first + timedelta(days=day)
