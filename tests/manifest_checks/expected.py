"""What the manifests expect from outside, as manifests/README.md lists it."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator

from tests.manifest_checks import building


@functools.cache
def secrets() -> dict[str, set[str]]:
    """Names of secrets and the keys that they must have, from the table with the columns `secret` and `keys`."""
    return {name: set(keys) for row in _rows("secret", "keys") for name in row[0] for keys in [row[1]]}


@functools.cache
def readme() -> str:
    """The page for whoever runs the cluster."""
    return (building.MANIFESTS / "README.md").read_text("utf-8")


def _rows(*columns: str) -> Iterator[list[list[str]]]:
    """The code words of the given columns, row by row, of every table that has them."""
    places: list[int] = []
    for line in readme().splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")] if line.startswith("|") else []
        if not cells:
            places = []
        elif not places and set(columns) <= set(cells):
            places = [cells.index(column) for column in columns]
        elif places and not set("".join(cells)) <= set("-: "):
            yield [re.findall(r"`([^`]+)`", cells[place]) for place in places]


@functools.cache
def services() -> set[str]:
    """`name.namespace` of services that others run, from the table with the columns `service` and `namespace`."""
    return {f"{name}.{where}" for row in _rows("service", "namespace") for name in row[0] for where in row[1]}


@functools.cache
def guests() -> list[dict[str, str]]:
    """Labels of pods that others run in our namespace, from the table with the columns `guest` and `label`."""
    return [dict(label.split("=", 1) for label in marks) for _, marks in _rows("guest", "label")]
