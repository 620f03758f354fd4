"""`python -m tests.checks.metrics_docs`: writes the tables of docs/metrics.md from the code that makes the metrics."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from inference_services.served import LABELS
from tests.checks.docs_tables import with_tables

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "metrics.md"

# Where the metrics of each table are made; a folder counts with all below it, the longest match wins.
TABLES = {
    "every server": ("inference_services",),
    "transformer": ("inference_services/transformer", "feature_repo/online_reader.py"),
    "decision log": ("inference_services/decision_log",),
    "drift detector": ("inference_services/drift_detector",),
    "ingestion and streaming worker": ("feature_repo", "feature_repo/streaming", "feature_repo/freshness.py"),
}
_KINDS = {
    "Counter": "counter",
    "Gauge": "gauge",
    "GaugeMetricFamily": "gauge",
    "Histogram": "histogram",
    "BatchHistogram": "histogram",
}


@dataclass(frozen=True)
class Metric:
    """One metric, named as it is served; a histogram without `_bucket`, `_sum` and `_count`."""

    name: str
    kind: str
    labels: tuple[str, ...]
    meaning: str
    table: str


def metrics() -> list[Metric]:
    """All metrics of the services, in the order of their files."""
    files = [f for folder in ("inference_services", "feature_repo") for f in sorted((ROOT / folder).rglob("*.py"))]
    return [metric for file in files for metric in _of_file(file)]


def tables() -> dict[str, str]:
    """Markdown tables by the name of their place in the page."""
    found = {name: ["| metric | type | labels | meaning |", "|---|---|---|---|"] for name in TABLES}
    for m in metrics():
        labels = ", ".join(f"`{label}`" for label in m.labels)
        found[m.table].append(f"| `{m.name}` | {m.kind} | {labels} | {m.meaning} |")
    return {name: "\n".join(lines) for name, lines in found.items()}


def _of_file(path: Path) -> Iterator[Metric]:
    tree = ast.parse(path.read_text("utf-8"))
    constants = {"LABELS": LABELS, **_constants(tree)}
    for call in ast.walk(tree):
        if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Name)):
            continue
        kind = _KINDS.get(call.func.id)
        # collections.Counter is called alike, and takes no name.
        if kind is None or len(call.args) < 2:
            continue
        name, meaning = (ast.literal_eval(argument) for argument in call.args[:2])
        # A family's third argument is a value.
        positional = [] if call.func.id.endswith("Family") else call.args[2:3]
        given = [k.value for k in call.keywords if k.arg in {"labels", "labelnames"}] or positional
        labels = tuple(_names(given[0], constants)) if given else ()
        yield Metric(f"{name}_total" if kind == "counter" else name, kind, labels, meaning, _table(path))


def _constants(tree: ast.Module) -> dict[str, tuple[str, ...]]:
    """The tuples of names that a module assigns."""
    return {
        target.id: tuple(ast.literal_eval(statement.value))
        for statement in tree.body
        if isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Tuple)
        for target in statement.targets
        if isinstance(target, ast.Name) and all(isinstance(e, ast.Constant) for e in statement.value.elts)
    }


def _names(node: ast.expr, constants: dict[str, tuple[str, ...]]) -> Iterator[str]:
    match node:
        case ast.List() | ast.Tuple():
            for element in node.elts:
                yield from _names(element, constants)
        case ast.Starred():
            yield from _names(node.value, constants)
        case ast.Name():
            yield from constants[node.id]
        case _:
            yield ast.literal_eval(node)


def _table(path: Path) -> str:
    place = path.relative_to(ROOT)
    matches = [(len(at), name) for name, places in TABLES.items() for at in places if place.is_relative_to(at)]
    return max(matches)[1]


if __name__ == "__main__":
    PAGE.write_text(with_tables(PAGE.read_text("utf-8"), tables()), "utf-8")
