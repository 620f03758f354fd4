"""`python -m tests.checks.serving_docs`: writes the tables of docs/serving.md that follow from the settings' code."""

from __future__ import annotations

from pathlib import Path

from pydantic_core import PydanticUndefined
from pydantic_settings import BaseSettings

from inference_services.drift_detector.settings import BridgeSettings, DriftSettings
from inference_services.server_settings import ServerSettings
from inference_services.transformer.settings import TransformerSettings
from tests.checks.docs_tables import with_tables

PAGE = Path(__file__).parents[2] / "docs" / "serving.md"


def tables() -> dict[str, str]:
    """Markdown tables by the name of their place in the page."""
    return {
        "transformer settings": settings_table(TransformerSettings),
        "server settings": settings_table(ServerSettings),
        "drift settings": settings_table(DriftSettings),
        "bridge settings": settings_table(BridgeSettings),
    }


def settings_table(settings: type[BaseSettings]) -> str:
    """A row for each environment variable of a settings class."""
    lines = ["| variable | default | meaning |", "|---|---|---|"]
    prefix = settings.model_config["env_prefix"]
    for name, field in settings.model_fields.items():
        given = field.default
        default = "required" if given is PydanticUndefined else "" if given in {None, ""} else f"`{given}`"
        lines.append(f"| `{prefix}{name.upper()}` | {default} | {field.description} |")
    return "\n".join(lines)


if __name__ == "__main__":
    PAGE.write_text(with_tables(PAGE.read_text("utf-8"), tables()), "utf-8")
