"""Each image installs one extra: it must bring what the image's packages import, and nothing that they do not."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
OURS = ("components", "feature_repo", "inference_services", "pipelines", "simulators")
# Modules that are not called as their distribution is.
DISTRIBUTIONS = {
    "grpc": "grpcio",
    "kfp.kubernetes": "kfp-kubernetes",
    "opentelemetry": "opentelemetry-api",
    "sklearn": "scikit-learn",
    "yaml": "pyyaml",
}
PACKAGES = {
    "features": ["feature_repo"],
    "transformer": ["inference_services.transformer"],
    "lightgbm-predictor": ["inference_services.lightgbm_predictor"],
    "gnn-predictor": ["inference_services.gnn_predictor"],
    "decision-log": ["inference_services.decision_log"],
    "drift": ["inference_services.drift_detector"],
    "pipelines": ["pipelines", "components"],
    "simulators": ["simulators"],
}
# Loaded when the environment asks for traces.
TRACING = {"opentelemetry-sdk", "opentelemetry-exporter-otlp-proto-http"}
# Never imported by us: those, and versions that alibi-detect needs held back.
HELD = {
    "transformer": TRACING,
    "lightgbm-predictor": TRACING,
    "gnn-predictor": TRACING,
    "drift": TRACING | {"pillow", "numba"},
}


def path_of(module: str) -> Path | None:
    base = ROOT / module.replace(".", "/")
    return next((p for p in (base.with_suffix(".py"), base / "__init__.py") if p.exists()), None)


def imports(statements: Iterable[ast.stmt], *, inside_functions: bool) -> Iterator[str]:
    """Imported names; what only a type checker reads is left out."""
    for statement in statements:
        if isinstance(statement, ast.Import):
            yield from (alias.name for alias in statement.names)
        elif isinstance(statement, ast.ImportFrom):
            yield str(statement.module)
            yield from (f"{statement.module}.{alias.name}" for alias in statement.names)
        elif isinstance(statement, ast.If) and "TYPE_CHECKING" in ast.unparse(statement.test):
            continue
        elif inside_functions or not isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
            inner = [child for child in ast.iter_child_nodes(statement) if isinstance(child, ast.stmt)]
            handlers = [s for h in getattr(statement, "handlers", ()) for s in h.body]
            yield from imports([*inner, *handlers], inside_functions=inside_functions)


def third_party(packages: list[str]) -> set[str]:
    """Distributions that the packages import, through our own modules too.

    Imports within functions count in the packages themselves; in what they import they are for other images.
    """
    files = [f for p in packages for f in (ROOT / p.replace(".", "/")).rglob("*.py")]
    todo = [".".join(f.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for f in files]
    seen: set[str] = set()
    found: set[str] = set()
    while todo:
        module = todo.pop()
        path = path_of(module)
        if module in seen or path is None:
            continue
        seen.add(module)
        todo += [module.rpartition(".")[0]] if "." in module else []
        own = any(f"{module}.".startswith(f"{p}.") for p in packages)
        for name in imports(ast.parse(path.read_text()).body, inside_functions=own):
            top = name.split(".")[0]
            if top in OURS:
                # The command line alone reaches the simulators, which a developer's installation has.
                todo += [name] if top != "simulators" or packages == ["simulators"] else []
            elif top not in sys.stdlib_module_names:
                found.add(DISTRIBUTIONS.get(top, top.replace("_", "-")))
                found |= {DISTRIBUTIONS[name]} if name in DISTRIBUTIONS else set()
    return found


def listed(requirements: Iterable[str]) -> set[str]:
    """Normalised names of requirements, with those of our own extras."""
    names: set[str] = set()
    for requirement in requirements:
        match = re.match(r"([\w.-]+)(?:\[([\w,-]+)\])?", requirement)
        assert match
        if match[1] == PROJECT["name"]:
            names |= {n for extra in match[2].split(",") for n in listed(PROJECT["optional-dependencies"][extra])}
        else:
            names.add(match[1].lower().replace("_", "-"))
    return names


CORE = listed(PROJECT["dependencies"])


@pytest.mark.parametrize("extra", PACKAGES)
def test_an_extra_lists_what_its_image_imports(extra: str) -> None:
    requirements = listed(PROJECT["optional-dependencies"][extra])
    assert third_party(PACKAGES[extra]) - requirements - CORE == set()


@pytest.mark.parametrize("extra", PACKAGES)
def test_an_extra_lists_nothing_that_its_image_does_not_import(extra: str) -> None:
    own = listed(r for r in PROJECT["optional-dependencies"][extra] if not r.startswith(PROJECT["name"]))
    assert own - third_party(PACKAGES[extra]) - CORE - HELD.get(extra, set()) == set()


def test_the_drift_lock_pins_what_its_extra_lists() -> None:
    lock = (ROOT / "requirements/drift.txt").read_text()
    pinned = set(re.findall(r"^([\w.-]+)==", lock, re.MULTILINE))
    assert listed(PROJECT["optional-dependencies"]["drift"]) <= pinned
