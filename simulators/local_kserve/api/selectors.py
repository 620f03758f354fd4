"""Which objects a request means: label and field selectors. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from simulators.local_kserve.errors import ApiError

Test = Callable[[Mapping[str, Any]], bool]

_TERM = re.compile(r"(?P<absent>!)?(?P<key>[^=!\s(),]+)\s*(?:(?P<operator>==|=|!=)\s*(?P<value>[^=!\s(),]*))?")
_FIELDS = ("metadata.name", "metadata.namespace")


def selector(labels: str, fields: str) -> Test:
    """A test of objects: equality and existence of labels, equality of name and namespace.

    Raises ApiError (400) for any other selector: to pass over one would mean objects that nobody named.
    """
    by_label, by_field = _terms(labels), _terms(fields)
    for key, operator, _ in by_field:
        if key not in _FIELDS or operator not in {"=", "!="}:
            raise ApiError(400, "BadRequest", f"field selectors take {' and '.join(_FIELDS)}, not {fields!r}")

    def matches(thing: Mapping[str, Any]) -> bool:
        metadata = thing["metadata"]
        named = {f"metadata.{field}": metadata[field] for field in ("name", "namespace")}
        return _all(by_label, metadata.get("labels") or {}) and _all(by_field, named)

    return matches


def _terms(text: str) -> list[tuple[str, str, str]]:
    found = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        term = _TERM.fullmatch(part)
        if term is None or (term["absent"] and term["operator"]):
            raise ApiError(400, "BadRequest", f"selector {text!r}: only key, !key, key=value and key!=value are known")
        operator = "absent" if term["absent"] else {None: "there", "==": "="}.get(term["operator"], term["operator"])
        found.append((term["key"], operator, term["value"] or ""))
    return found


def _all(terms: list[tuple[str, str, str]], values: Mapping[str, str]) -> bool:
    tests: dict[str, Callable[[str, str], bool]] = {
        "absent": lambda key, _: key not in values,
        "there": lambda key, _: key in values,
        "=": lambda key, value: values.get(key) == value,
        "!=": lambda key, value: values.get(key) != value,
    }
    return all(tests[operator](key, value) for key, operator, value in terms)
