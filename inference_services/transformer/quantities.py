"""Numbers as people write them: 1,200 toman; 3.4 km; 12 minutes; 2 days. Values are finite."""

from __future__ import annotations

_MINUTE, _HOUR, _DAY, _YEAR = 60.0, 3600.0, 86_400.0, 365.25 * 86_400.0
# From here on digits tell nobody anything.
_HUGE = 1e15


def number(value: float) -> str:
    """A number with at most one decimal below 100, none from there on."""
    if abs(value) >= _HUGE:
        return f"{value:.2g}"
    if abs(value) >= 100 or float(value).is_integer():
        return f"{value:,.0f}"
    text = f"{value:.1f}"
    return f"{value:.2g}" if text in {"0.0", "-0.0"} else text


def counted(value: float) -> str:
    """How many, without a noun; a fraction comes from a sketch, which estimates."""
    if abs(value) < _HUGE and not float(value).is_integer():
        return f"about {value:,.0f}"
    return number(value)


def count(value: float, one: str, many: str, none: str = "") -> str:
    """How many of what: "no trips", "1 trip", "41 trips"; `none` is the noun after "no", where it is not `many`."""
    if value == 0:
        return f"no {none or many}"
    return f"{counted(value)} {one if value == 1 else many}"


def toman(value: float) -> str:
    """Money."""
    for size, name in ((1e9, "billion "), (1e6, "million ")):
        if size <= abs(value) < _HUGE:
            return f"{value / size:.3g} {name}toman"
    return f"{value:,.0f} toman" if abs(value) < _HUGE else f"{number(value)} toman"


def metres(value: float) -> str:
    """A length given in metres."""
    return f"{value:.0f} m" if abs(value) < 1000 else f"{number(value / 1000)} km"


def duration(seconds: float) -> str:
    """A time span: in the largest unit of which it holds one and a half, so that 90 minutes stay minutes."""
    seconds = min(seconds, _HUGE)
    for unit, one, many in ((_YEAR, "year", "years"), (_DAY, "day", "days"), (_HOUR, "hour", "hours")):
        if seconds >= 1.5 * unit or (unit < _YEAR and seconds == unit):
            value = seconds / unit
            text = number(round(value, 1) if value < 10 else round(value))
            return f"{text} {one if text == '1' else many}"
    if seconds >= _MINUTE:
        return _whole(seconds / _MINUTE, "minute")
    return _whole(max(seconds, 0.0), "second")


def kmh(value: float) -> str:
    """A speed given in km/h."""
    return f"{number(value)} km/h"


def toman_per_km(value: float) -> str:
    """A price by distance."""
    return f"{toman(value)} per km"


def factor(value: float) -> str:
    """A ratio, with a decimal where it is small: 1 and 1.4 differ."""
    return f"{value:.1f}" if 0.05 <= abs(value) < 10 else number(value)


def times(value: float) -> str:
    """A ratio as a comparison."""
    return f"{factor(value)} times"


def _whole(value: float, one: str) -> str:
    return f"{value:.0f} {one if round(value) == 1 else one + 's'}"
