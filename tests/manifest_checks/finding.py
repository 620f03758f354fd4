"""What a check says, and how objects are named in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Object = dict[str, Any]


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """One thing that is wrong.

    Attributes:
        object: kind and name.
        path: where in the object, dotted; empty for the object as a whole.
        message: what is wrong there.
    """

    object: str
    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.object}: {self.path}: {self.message}" if self.path else f"{self.object}: {self.message}"


def title(thing: Mapping[str, Any]) -> str:
    return f"{thing['kind']} {thing['metadata']['name']}"


def group(thing: Mapping[str, Any]) -> str:
    """The API group; empty for the core one."""
    return str(thing["apiVersion"]).rpartition("/")[0]


def namespace(thing: Mapping[str, Any]) -> str:
    return str(thing["metadata"].get("namespace", ""))


def labels(thing: Mapping[str, Any]) -> dict[str, str]:
    return thing["metadata"].get("labels") or {}


def annotation(thing: Mapping[str, Any], name: str) -> str | None:
    return (thing["metadata"].get("annotations") or {}).get(name)


def walk(value: Any, path: str = "") -> Iterator[tuple[str, Object]]:
    """Every mapping inside `value`, itself included, with its dotted path."""
    if isinstance(value, dict):
        yield path, value
        for key, inner in value.items():
            yield from walk(inner, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from walk(inner, f"{path}[{index}]")


def once(function: Callable[..., Iterator[Finding]]) -> Callable[..., Iterator[Finding]]:
    """Lets a check meet the same fault by two ways and say it once."""

    def wrapped(*arguments: Any) -> Iterator[Finding]:
        yield from dict.fromkeys(function(*arguments))

    wrapped.__doc__ = function.__doc__
    return wrapped
