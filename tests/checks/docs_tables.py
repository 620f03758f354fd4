"""`python -m tests.checks.docs_tables`: writes the tables of docs/simulator.md that follow from the code."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pydantic_core import PydanticUndefined

from simulators.abuse_scenarios import SCENARIOS
from simulators.ride_hailing import WorldSettings

PAGE = Path(__file__).parents[2] / "docs" / "simulator.md"


def tables() -> dict[str, str]:
    """Markdown tables by the name of their place in the page."""
    scenarios = ["| scenario | fraud | what happens |", "|---|---|---|"]
    scenarios += [f"| `{s.name}` | {s.fraud_share:.0%} | {s.description} |" for s in SCENARIOS.values()]
    return {"settings": "\n".join(_settings()), "scenarios": "\n".join(scenarios)}


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
