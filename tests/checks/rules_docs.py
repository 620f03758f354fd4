"""`python -m tests.checks.rules_docs`: writes the tables of docs/rules.md that follow from the code."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel

from feature_repo.event_schemas import CATALOGUE, SCORED_EVENT_TYPES
from feature_repo.feature_names import MODEL_FEATURES
from inference_services.transformer.rules.language import BOOLEANS, NUMBERS, TEXTS
from inference_services.transformer.rules.rule_file import NamedList, Rule
from tests.checks.docs_tables import with_tables

PAGE = Path(__file__).parents[2] / "docs" / "rules.md"


def tables() -> dict[str, str]:
    """Markdown tables by the name of their place in the page."""
    return {
        "rule fields": _fields(Rule),
        "list fields": _fields(NamedList),
        "event fields": _event_fields(),
    }


def _fields(model: type[BaseModel]) -> str:
    lines = ["| field | meaning |", "|---|---|"]
    for name, field in model.model_fields.items():
        may = "" if field.is_required() else " May be left out."
        lines.append(f"| `{name}` | {field.description}{may} |")
    return "\n".join(lines)


def _event_fields() -> str:
    lines = ["| name | type | events that may have it | meaning |", "|---|---|---|---|"]
    types = {**dict.fromkeys(NUMBERS, "number"), **dict.fromkeys(TEXTS, "text"), **dict.fromkeys(BOOLEANS, "yes or no")}
    for name, spec in CATALOGUE.fields.items():
        having = [kind for kind in SCORED_EVENT_TYPES if name in CATALOGUE.allowed[kind]]
        if not having or (name in MODEL_FEATURES and types[name] == "number"):
            continue
        where = "all" if len(having) == len(SCORED_EVENT_TYPES) else ", ".join(f"`{kind}`" for kind in having)
        lines.append(f"| `{name}` | {types[name]} | {where} | {spec.description.rstrip('.')} |")
    return "\n".join(lines)


if __name__ == "__main__":
    PAGE.write_text(with_tables(PAGE.read_text("utf-8"), tables()), "utf-8")
