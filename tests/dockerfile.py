"""Reads a Dockerfile: its stages, what they are made of, and what an image is told by all of them together."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Stage:
    """One stage.

    Attributes:
        name: what `--target` calls it.
        base: the image, or the name of the stage, that it goes on from.
        steps: (instruction, the rest of its line), in order.
    """

    name: str
    base: str
    steps: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Dockerfile:
    """Attributes: `arguments`, name -> default of those before the first stage; `stages` by name, in order."""

    arguments: dict[str, str]
    stages: dict[str, Stage]

    @classmethod
    def read(cls, path: Path) -> Dockerfile:
        arguments: dict[str, str] = {}
        stages: dict[str, Stage] = {}
        for instruction, rest in _steps(path.read_text()):
            if instruction == "FROM":
                base, _, name = rest.partition(" AS ")
                stages[name] = Stage(name, base, ())
            elif not stages:
                assert instruction == "ARG"
                name, _, default = rest.partition("=")
                arguments[name] = default
            else:
                last = next(reversed(stages.values()))
                stages[last.name] = Stage(last.name, last.base, (*last.steps, (instruction, rest)))
        return cls(arguments, stages)

    def targets(self) -> list[str]:
        """The stages that no other is made of: the images."""
        used = {stage.base for stage in self.stages.values()}
        used |= {source for stage in self.stages.values() for source, _ in copies(stage)}
        return [name for name in self.stages if name not in used]

    def steps(self, target: str) -> list[tuple[str, str]]:
        """All steps that an image is made by, those of the stages below it first."""
        stage = self.stages[target]
        below = self.steps(stage.base) if stage.base in self.stages else []
        return [*below, *stage.steps]

    def last(self, target: str, instruction: str) -> str:
        """What an instruction says that holds by its last mention."""
        return next((rest for found, rest in reversed(self.steps(target)) if found == instruction), "")

    def environment(self, target: str) -> dict[str, str]:
        """The environment variables of an image."""
        return _pairs(rest for found, rest in self.steps(target) if found == "ENV")

    def labels(self, target: str) -> dict[str, str]:
        """The labels of an image."""
        return _pairs(rest for found, rest in self.steps(target) if found == "LABEL")

    def command(self, target: str) -> list[str]:
        """What an image runs: entrypoint and command, in the form that needs no shell."""
        words = [json.loads(self.last(target, name) or "[]") for name in ("ENTRYPOINT", "CMD")]
        return [str(word) for part in words for word in part]


def copies(stage: Stage) -> Iterator[tuple[str, str]]:
    """(stage, path) of what a stage copies from another; the stage is empty for the build's own folder."""
    for instruction, rest in stage.steps:
        if instruction == "COPY":
            match = re.match(r"--from=(\S+)\s+", rest)
            *sources, _ = rest[match.end() if match else 0 :].split()
            yield from ((match[1] if match else "", source) for source in sources)


def _pairs(lines: Iterator[str]) -> dict[str, str]:
    found = {}
    for line in lines:
        for name, quoted, plain in re.findall(r'([\w.]+)=(?:"([^"]*)"|(\S*))', line):
            found[name] = quoted or plain
    return found


def _steps(text: str) -> Iterator[tuple[str, str]]:
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    for line in joined.splitlines():
        instruction, _, rest = line.partition(" ")
        yield instruction, rest.strip()
