"""`python -m tests.checks.decision_docs`: writes the tables of docs/decisions.md that follow from the code."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import get_type_hints

from inference_services.decision_log.files import SCHEMA
from inference_services.decision_log.settings import DecisionLogSettings
from inference_services.transformer.decision_record import DecisionRecord
from tests.checks.docs_tables import with_tables
from tests.checks.serving_docs import settings_table

PAGE = Path(__file__).parents[2] / "docs" / "decisions.md"


def tables() -> dict[str, str]:
    """Markdown tables by the name of their place in the page."""
    columns = "\n".join(["| column | type |", "|---|---|", *(f"| `{field.name}` | {field.type} |" for field in SCHEMA)])
    return {"record": _record(), "columns": columns, "settings": settings_table(DecisionLogSettings)}


def _record() -> str:
    lines = ["| field | JSON | meaning |", "|---|---|---|"]
    hints = get_type_hints(DecisionRecord, include_extras=True)
    for field in fields(DecisionRecord):
        described = hints[field.name]
        (about,) = described.__metadata__
        lines.append(f"| `{field.name}` | {_json(described.__origin__)} | {about.description} |")
    return "\n".join(lines)


def _json(kind: object) -> str:
    text = str(getattr(kind, "__args__", (kind,))[0] if "None" in str(kind) else kind)
    named = {"str": "string", "int": "integer", "float": "number", "dict": "object", "list": "array"}
    found = next((json for name, json in named.items() if f"'{name}'" in text or text.startswith(f"{name}[")), None)
    found = found or ("string" if "Literal" in text else "object")
    return f"{found} or null" if "None" in str(kind) else found


if __name__ == "__main__":
    PAGE.write_text(with_tables(PAGE.read_text("utf-8"), tables()), "utf-8")
