"""`python -m tests.checks.rollout_docs`: writes the table of docs/rollout.md that follows from the code."""

from __future__ import annotations

from pathlib import Path

from components.judge_canary.settings import JudgeSettings
from tests.checks.docs_tables import with_tables

PAGE = Path(__file__).parents[2] / "docs" / "rollout.md"


def tables() -> dict[str, str]:
    """Markdown tables by the name of their place in the page."""
    lines = ["| `JudgeSettings` | default | meaning |", "|---|---|---|"]
    fields = JudgeSettings.model_fields.items()
    lines += [f"| `{name}` | `{field.default}` | {field.description} |" for name, field in fields]
    return {"judge": "\n".join(lines)}


if __name__ == "__main__":
    PAGE.write_text(with_tables(PAGE.read_text("utf-8"), tables()), "utf-8")
