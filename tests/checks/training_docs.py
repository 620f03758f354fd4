"""`python -m tests.checks.training_docs`: writes the tables of docs/models.md that follow from the pipelines' code."""

from __future__ import annotations

from pathlib import Path

from pipelines.settings import KfpSettings
from pipelines.training_pipeline import SETTINGS
from tests.checks.docs_tables import with_tables

PAGE = Path(__file__).parents[2] / "docs" / "models.md"


def tables() -> dict[str, str]:
    """Markdown tables by the name of their place in the page."""
    return {"pipeline steps": "\n".join(_steps()), "cluster settings": "\n".join(_settings())}


def _steps() -> list[str]:
    lines = [
        "| step | CPU | memory | minutes | retries | why twice, or not | cached |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, row in SETTINGS.items():
        cpu, memory = (" to ".join(given) for given in (row.resources.cpu, row.resources.memory))
        cached = "yes" if row.cached else "no"
        lines.append(
            f"| `{name}` | {cpu} | {memory} | {row.timeout_s // 60} | {row.retries} | {row.twice} | {cached} |"
        )
    return lines


def _settings() -> list[str]:
    lines = ["| variable | default | meaning |", "|---|---|---|"]
    prefix = KfpSettings.model_config["env_prefix"]
    for name, field in KfpSettings.model_fields.items():
        default = "" if field.default in {None, ""} else f"`{field.default}`"
        lines.append(f"| `{prefix}{name.upper()}` | {default} | {field.description} |")
    return lines


if __name__ == "__main__":
    PAGE.write_text(with_tables(PAGE.read_text("utf-8"), tables()), "utf-8")
