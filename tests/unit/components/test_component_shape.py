"""Every step's folder: a thin component that imports and calls, in an explicit image, with a README and tests."""

from __future__ import annotations

import ast
import re
from importlib import import_module
from pathlib import Path

import pytest

from components.image import PIPELINES_IMAGE
from tests.conftest import ROOT

STEPS = sorted(path.parent.name for path in (ROOT / "components").glob("*/component.py"))
LONGEST_BODY = 40
# What has a decision, a loop without an end, or a definition in it belongs in logic.py.
TOO_MUCH = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda, ast.While, ast.Try, ast.Raise, ast.Return)


def source(step: str) -> ast.Module:
    return ast.parse((ROOT / "components" / step / "component.py").read_text())


def function(step: str) -> ast.FunctionDef:
    found = [node for node in source(step).body if isinstance(node, ast.FunctionDef)]
    assert [node.name for node in found] == [step], "one component in a file, named as its folder"
    return found[0]


def body(step: str) -> list[ast.stmt]:
    return [s for s in function(step).body if not (isinstance(s, ast.Expr) and isinstance(s.value, ast.Constant))]


def test_there_are_steps() -> None:
    assert {"validate_events", "train_gnn", "register_model", "write_embeddings"} <= set(STEPS)


@pytest.mark.parametrize("step", STEPS)
def test_runs_in_an_explicit_image_and_installs_nothing(step: str) -> None:
    component = getattr(import_module(f"components.{step}.component"), step)
    container = component.component_spec.implementation.container
    assert container.image == PIPELINES_IMAGE
    assert "pip install" not in " ".join([*container.command, *container.args])
    (decorator,) = function(step).decorator_list
    assert isinstance(decorator, ast.Call)
    given = {word.arg: word.value for word in decorator.keywords}
    assert given.keys() == {"base_image", "install_kfp_package"}
    assert isinstance(off := given["install_kfp_package"], ast.Constant)
    assert off.value is False


@pytest.mark.parametrize("step", STEPS)
def test_annotations_are_not_postponed(step: str) -> None:
    """KFP reads them when it makes the component, and refuses text."""
    futures = [n for n in source(step).body if isinstance(n, ast.ImportFrom) and n.module == "__future__"]
    assert not futures


@pytest.mark.parametrize("step", STEPS)
def test_its_body_imports_and_calls(step: str) -> None:
    statements = body(step)
    length = (statements[-1].end_lineno or 0) - statements[0].lineno + 1
    assert length <= LONGEST_BODY, f"{length} lines: move the work to logic.py"
    last = statements[-1]
    for node in (found for s in statements for found in ast.walk(s)):
        assert not isinstance(node, TOO_MUCH) or node is last, (
            f"line {getattr(node, 'lineno', '?')}: move it to logic.py"
        )
    imported = [n.module or "" for s in statements for n in ast.walk(s) if isinstance(n, ast.ImportFrom)]
    assert any(m.startswith(f"components.{step}") for m in imported), "it calls its own folder's logic"
    # The function's text alone reaches the pod: a name of the module would not be there.
    outside = {a.asname or a.name for n in source(step).body if isinstance(n, ast.ImportFrom) for a in n.names}
    used = {n.id for s in statements for n in ast.walk(s) if isinstance(n, ast.Name)}
    assert not used & outside


@pytest.mark.parametrize("step", STEPS)
def test_has_a_readme_and_tests(step: str) -> None:
    readme = ROOT / "components" / step / "README.md"
    assert readme.exists(), f"components/{step} has no README.md"
    assert readme.read_text().startswith(f"# {step}\n")
    imports = re.compile(rf"\bcomponents\.{step}\b|\bfrom components import .*\b{step}\b")
    tests = [p for p in Path(ROOT / "tests").rglob("test_*.py") if imports.search(p.read_text())]
    assert tests, f"no test imports components.{step}"
