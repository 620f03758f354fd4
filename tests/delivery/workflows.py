"""Reads GitHub's workflows and the actions of this repository: jobs, steps, scripts."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
GITHUB = ROOT / ".github"
WORKFLOWS = sorted((GITHUB / "workflows").glob("*.yml"))
ACTIONS = sorted((GITHUB / "actions").glob("*/action.yml"))


@dataclass(frozen=True)
class Step:
    """A step, and whose it is.

    Attributes:
        where: file and job.
        fields: as the file has them.
    """

    where: str
    fields: dict[str, Any]

    @property
    def script(self) -> str:
        """What it runs, empty for an action."""
        return str(self.fields.get("run", ""))


def read(path: Path) -> dict[Any, Any]:
    """A file. YAML 1.1 reads the key `on` as true."""
    found: dict[Any, Any] = yaml.safe_load(path.read_text())
    return found


def jobs(path: Path) -> dict[str, dict[str, Any]]:
    """The jobs of a workflow."""
    found: dict[str, dict[str, Any]] = read(path)["jobs"]
    return found


def steps() -> Iterator[Step]:
    """Every step of every workflow and action."""
    for path in WORKFLOWS:
        for name, job in jobs(path).items():
            yield from (Step(f"{path.name} {name}", fields) for fields in job["steps"])
    for path in ACTIONS:
        yield from (Step(f"{path.parent.name}", fields) for fields in read(path)["runs"]["steps"])


def targets(script: str) -> Iterator[str]:
    """The targets that a script gives to make."""
    for words in re.findall(r"(?:^|[;&|(]\s*)make\s+([^\n;&|]*)", script, re.MULTILINE):
        yield from (word for word in words.split() if re.fullmatch(r"[a-z][a-z-]*", word))


def make_targets() -> set[str]:
    """The targets of the Makefile."""
    return set(re.findall(r"^([a-z][a-z-]*):(?!=)", (ROOT / "Makefile").read_text(), re.MULTILINE))
