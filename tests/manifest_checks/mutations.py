"""Ways to break a build, each with the check that has to see it: the proof that the checks are not blind."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from tests.manifest_checks import custom_kinds
from tests.manifest_checks.built import Built
from tests.manifest_checks.finding import Object, title

Change = Callable[[Object], None]


@dataclass(frozen=True)
class Mutation:
    """One fault.

    Attributes:
        name: what is broken, in words.
        check: name of the check that has to see it.
        object: kind and name of the object that is broken; a star stands for a version.
        change: breaks it, in place; None takes it away.
        says: what the finding has to say, a regular expression.
        build: words of the build to break; empty for the first that has the object.
        by_definition: whether only the definition of a custom kind shows it.
    """

    name: str
    check: str
    object: str
    change: Change | None
    says: str
    build: str = ""
    by_definition: bool = False

    @property
    def can_be_seen(self) -> bool:
        """False where the definitions of custom kinds that it takes are not there."""
        return custom_kinds.CRDS.exists() or not (self.by_definition or self.check == "custom kinds")

    def applies(self, built: Built) -> bool:
        return self.build in built.name and any(self._is_meant(thing) for thing in built.objects)

    def broken(self, built: Built) -> Built:
        """The build with this fault in it; the given one stays as it is."""
        objects = []
        for thing in built.objects:
            if not self._is_meant(thing):
                objects.append(thing)
            elif self.change is not None:
                copied = copy.deepcopy(thing)
                self.change(copied)
                objects.append(copied)
        return Built(built.name, tuple(objects))

    def _is_meant(self, thing: Object) -> bool:
        return fnmatchcase(title(thing), self.object)

    def seen(self, said: Iterable[Any]) -> bool:
        return any(re.search(self.says, str(finding)) for finding in said)


def put(path: str, value: Any) -> Change:
    """Sets a field. A path is words: keys, and in a list a number or an entry's name."""

    def change(thing: Object) -> None:
        parent, last = _parent(thing, path)
        parent[last] = value

    return change


def drop(path: str) -> Change:
    """Removes a field or an entry."""

    def change(thing: Object) -> None:
        parent, last = _parent(thing, path)
        del parent[last]

    return change


def swap(path: str, old: str, new: str) -> Change:
    """Replaces words inside a text."""

    def change(thing: Object) -> None:
        parent, last = _parent(thing, path)
        assert old in parent[last]
        parent[last] = parent[last].replace(old, new)

    return change


def append(path: str, value: Any) -> Change:
    """Adds to a list, which need not be there."""

    def change(thing: Object) -> None:
        parent, last = _parent(thing, path)
        parent[last] = [*(parent.get(last) or []), value]

    return change


def _parent(thing: Any, path: str) -> tuple[Any, Any]:
    *parts, last = path.split()
    for part in parts:
        thing = thing[_key(thing, part)]
    return thing, _key(thing, last)


def _key(thing: Any, part: str) -> Any:
    if not isinstance(thing, list):
        return part
    return int(part) if part.isdigit() else [entry["name"] for entry in thing].index(part)


# Paths that are used again and again.
POD = "spec template spec"
FIRST = f"{POD} containers 0"
SIDE = "spec transformer containers 0"
