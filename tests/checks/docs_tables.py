"""`python -m tests.checks.docs_tables`: writes the tables of docs/simulator.md that follow from the code."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from datetime import date, timedelta
from pathlib import Path

from pydantic_core import PydanticUndefined

from simulators.abuse_scenarios import SCENARIOS
from simulators.ride_hailing import Change, ConceptDrift, Holiday, Jamming, LabelShift, WorldSettings
from simulators.ride_hailing.world_records import recorded
from simulators.ride_hailing.worlds import WORLDS

PAGE = Path(__file__).parents[2] / "docs" / "simulator.md"


def tables() -> dict[str, str]:
    """Markdown tables by the name of their place in the page."""
    scenarios = ["| scenario | fraud | what happens |", "|---|---|---|"]
    scenarios += [f"| `{s.name}` | {s.fraud_share:.0%} | {s.description} |" for s in SCENARIOS.values()]
    found = {"settings": "\n".join(_settings()), "scenarios": "\n".join(scenarios)}
    for name, world in WORLDS.items():
        found |= {name: "\n".join(_calendar(world(0))), f"{name} seeds": "\n".join(_seeds(name))}
    return found


def _seeds(name: str) -> list[str]:
    """What the recorded seeds of a frozen world hold."""
    lines = ["| seed | use | events | fraud events | labels | digest of the files |", "|---|---|---|---|---|---|"]
    return lines + [
        f"| {seed} | {r.use} | {r.events:,} | {r.fraud_events:,} | {r.labels:,} | `{r.files[:12]}` |"
        for seed, r in recorded(name).seeds.items()
    ]


def _calendar(settings: WorldSettings) -> list[str]:
    """The days of a world in order, with what changes on them."""
    spells = defaultdict(list)
    for change in settings.changes:
        spells[change.day, getattr(change, "until", None)].append(change)
    starts = [day for day, _ in spells] + [settings.days]
    rows, quiet_from = [], 0
    for n, ((day, until), changes) in enumerate(spells.items()):
        if quiet_from < day:
            rows.append((quiet_from, day, "nothing"))
        quiet_from = until or starts[n + 1]
        rows.append((day, quiet_from, "; ".join(_told(change, settings) for change in changes)))
    if quiet_from < settings.days:
        rows.append((quiet_from, settings.days, "nothing"))
    lines = ["| days | dates | what changes |", "|---|---|---|"]
    first = settings.first_day
    return lines + [
        f"| {_spell(a, b - 1)} | {_spell(first + timedelta(days=a), first + timedelta(days=b - 1))} | {told} |"
        for a, b, told in rows
    ]


def _spell(begin: int | date, end: int | date) -> str:
    return f"{begin} to {end}" if begin != end else str(begin)


def _told(change: Change, settings: WorldSettings) -> str:
    match change:
        case Jamming():
            return f"GPS is jammed in {change.city} (covariate drift)"
        case Holiday():
            return "everybody keeps the habits of the day of rest (covariate drift)"
        case LabelShift():
            return f"{change.factor} times as much `{change.typology}` (label shift)"
        case ConceptDrift():
            turns = [c.day for c in settings.changes if isinstance(c, ConceptDrift) and c.typology == change.typology]
            back = turns.index(change.day) % 2
            return f"`{change.typology}` {'has its old ways again' if back else 'has other ways (concept drift)'}"
        case _:
            return f"`{change.typology}` occurs for the first time (new typology), and goes on"


def _settings() -> list[str]:
    lines = ["| setting | default | bounds | meaning |", "|---|---|---|---|"]
    for name, field in WorldSettings.model_fields.items():
        bounds = ", ".join(
            f"{sign} {getattr(m, key)}"
            for m in field.metadata
            for key, sign in (("ge", "≥"), ("le", "≤"))
            if hasattr(m, key)
        )
        default = "derived" if field.default is PydanticUndefined else _shown(field.default)
        lines.append(f"| `{name}` | {default} | {bounds} | {field.description or ''} |")
    return lines


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return ", ".join(map(str, value)) or "none"
    return str(value)


def with_tables(text: str, new: Mapping[str, str]) -> str:
    """The page with each table between its marks `<!-- NAME -->` and `<!-- /NAME -->` made new."""
    for name, table in new.items():
        start, end = f"<!-- {name} -->", f"<!-- /{name} -->"
        before, _, rest = text.partition(start)
        _, _, after = rest.partition(end)
        text = f"{before}{start}\n{table}\n{end}{after}"
    return text


if __name__ == "__main__":
    PAGE.write_text(with_tables(PAGE.read_text("utf-8"), tables()), "utf-8")
