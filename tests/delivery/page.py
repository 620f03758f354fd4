"""Reads docs/deploy.md: its commands, and what they name."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass

from tests.delivery.workflows import ROOT

PAGE = ROOT / "docs" / "deploy.md"
TEXT = PAGE.read_text()


@dataclass(frozen=True)
class Block:
    """Commands of the page.

    Attributes:
        mark: the comment before them, empty without one.
        script: the commands.
        line: where they begin.
    """

    mark: str
    script: str
    line: int


def blocks() -> list[Block]:
    """All commands, in order."""
    found = re.finditer(r"(?:<!-- ([\w: ]+) -->\n)?```sh\n(.*?)```", TEXT, re.DOTALL)
    return [Block(m[1] or "", m[2], TEXT.count("\n", 0, m.start()) + 1) for m in found]


def commands(script: str) -> Iterator[list[str]]:
    """The simple commands of a script as words; quotes are taken off, and what the shell would put in is not put in."""
    joined = re.sub(r"\\\n\s*", " ", script)
    lexer = shlex.shlex(joined.replace("\n", " ; "), posix=True, punctuation_chars=";|&()<>")
    lexer.whitespace_split = True
    lexer.commenters = ""
    words: list[str] = []
    for word in lexer:
        if set(word) <= set(";|&()<>"):
            if words:
                yield words
            words = []
        elif words or not re.fullmatch(r"(do|then|else|export|\w+=.*)", word):
            words.append(word)
    if words:
        yield words


def of_program(name: str) -> list[list[str]]:
    """The arguments of every call of a program; the words after `--` of kubectl exec are a command of their own."""
    found = []
    for block in blocks():
        for words in commands(block.script):
            inner = words[words.index("--") + 1 :] if words[0] == "kubectl" and "--" in words else []
            if inner[:2] == ["sh", "-c"]:
                inner = next(commands(inner[2]))
            found += [words, inner]
    prefixes = {"fraud": (["fraud"], ["python", "-m", "pipelines.cli"])}.get(name, ([name],))
    return [words[len(prefix) :] for words in found for prefix in prefixes if words[: len(prefix)] == prefix]
