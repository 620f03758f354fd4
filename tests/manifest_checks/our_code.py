"""What our code says about itself, read without running it: modules, settings, metrics, calls of Kubernetes."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.checks.metrics_docs import Metric
from tests.checks.metrics_docs import metrics as _metrics
from tests.manifest_checks.building import ROOT
from tests.unit.inference_services.test_extras import OURS, imports, path_of

PREFIX = "FRAUD_"
_VERBS = ("create", "delete", "get", "list", "patch", "replace", "read", "watch")
# KFP's API asks Kubernetes whether the caller may do this to its own kinds of resource.
_KFP_CALL = re.compile(rf"^(\w+)_service_({'|'.join(_VERBS)})_\w+$")
_OPTION = re.compile(r"--[a-z][\w-]*(/--[a-z][\w-]*)?$")
_CALL = re.compile(rf"^({'|'.join(_VERBS)})_namespaced_(\w+)$")


@dataclass(frozen=True)
class Settings:
    """A settings class.

    Attributes:
        prefix: of its environment variables.
        nested: what separates the field of an inner class; empty without.
        fields: names of its variables, without the prefix.
        required: those of them that have no default.
    """

    prefix: str
    nested: str
    fields: frozenset[str]
    required: frozenset[str]

    def knows(self, variable: str) -> bool:
        if not variable.startswith(self.prefix):
            return False
        rest = variable.removeprefix(self.prefix)
        return rest in self.fields or bool(self.nested and rest.partition(self.nested)[0] in self.fields)


def module_file(name: str) -> Path | None:
    """The file that `python -m name` runs."""
    base = ROOT / name.replace(".", "/")
    return next((path for path in (base / "__main__.py", base.with_suffix(".py")) if path.exists()), None)


@functools.cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"))


@functools.cache
def reached(module: str) -> frozenset[Path]:
    """Our files that a module imports, at whatever distance, also inside functions; its own file included."""
    first = module_file(module)
    todo, seen = ([first] if first else []), set()
    while todo:
        path = todo.pop()
        if path in seen:
            continue
        seen.add(path)
        names = [n for n in imports(_tree(path).body, inside_functions=True) if n.split(".")[0] in OURS]
        packages = [name.rpartition(".")[0] for name in names]
        todo += [found for name in (*names, *packages) if (found := path_of(name)) is not None]
    return frozenset(seen)


@functools.cache
def settings_of(module: str) -> tuple[tuple[Settings, ...], frozenset[str]]:
    """The settings classes that a module reaches, and the variables of ours that it reads by name."""
    files = reached(module)
    return tuple(s for f in files for s in _settings(f)), frozenset(v for f in files for v in _read_by_name(f))


def _settings(path: Path) -> Iterator[Settings]:
    for node in ast.walk(_tree(path)):
        if not isinstance(node, ast.ClassDef):
            continue
        given = _model_config(node)
        if "env_prefix" not in given:
            continue
        fields = {
            statement.target.id.upper(): statement.value
            for statement in node.body
            if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name)
        }
        required = frozenset(name for name, value in fields.items() if not _has_default(value))
        yield Settings(given["env_prefix"], given.get("env_nested_delimiter", ""), frozenset(fields), required)


def _has_default(value: ast.expr | None) -> bool:
    if isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and value.func.id == "Field":
        return bool(value.args) or any(word.arg in {"default", "default_factory"} for word in value.keywords)
    return value is not None


def _model_config(node: ast.ClassDef) -> dict[str, str]:
    for statement in node.body:
        if isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Call):
            target = statement.targets[0]
            if isinstance(target, ast.Name) and target.id == "model_config":
                words = statement.value.keywords
                return {w.arg: str(w.value.value) for w in words if w.arg and isinstance(w.value, ast.Constant)}
    return {}


def _read_by_name(path: Path) -> Iterator[str]:
    for node in ast.walk(_tree(path)):
        if (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and re.fullmatch(r"FRAUD_[A-Z_]+", node.value)
        ):
            yield node.value


@functools.cache
def options(path: Path) -> frozenset[str]:
    """Command line options that a file adds: named, or parameters of a Typer command."""
    found = set()
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and _OPTION.match(node.value):
            found |= set(node.value.split("/"))
        elif isinstance(node, ast.FunctionDef) and any(_is_command(d) for d in node.decorator_list):
            found |= {f"--{argument.arg.replace('_', '-')}" for argument in node.args.args}
    return frozenset(found)


def _is_command(decorator: ast.expr) -> bool:
    return isinstance(decorator, ast.Call) and getattr(decorator.func, "attr", "") == "command"


@functools.cache
def metrics() -> dict[str, Metric]:
    """Our metrics, by the name that is scraped; docs/metrics.md is made from the same list."""
    return {metric.name: metric for metric in _metrics()}


@functools.cache
def kubernetes_calls() -> frozenset[tuple[str, str, str]]:
    """(API group, resource, verb) of every call that our code makes of a cluster."""
    files = [f for folder in OURS[:-1] for f in (ROOT / folder).rglob("*.py")]
    return frozenset(call for file in files for call in _calls(file))


def _calls(path: Path) -> Iterator[tuple[str, str, str]]:
    if not re.search(r"_namespaced_|_service_", path.read_text("utf-8")):
        return
    tree = _tree(path)
    constants = _constants(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and (match := _KFP_CALL.match(node.attr)):
            yield "pipelines.kubeflow.org", f"{match[1]}s", match[2]
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            match = _CALL.match(node.func.attr)
            if match is None:
                continue
            verb = {"read": "get", "replace": "update"}.get(match[1], match[1])
            if match[2].startswith("custom_object"):
                group, _, _, plural = (_text(argument, constants) for argument in node.args[:4])
                yield group, plural, verb
            else:
                yield "", f"{match[2]}s", verb


def _constants(tree: ast.Module) -> dict[str, str]:
    """Module-level names of texts, also where a tuple of names is assigned."""
    found = {}
    for statement in tree.body:
        if isinstance(statement, ast.Assign):
            target, value = statement.targets[0], statement.value
            targets = target.elts if isinstance(target, ast.Tuple) else [target]
            values = value.elts if isinstance(value, ast.Tuple) and isinstance(target, ast.Tuple) else [value]
            for name, text in zip(targets, values, strict=True):
                if isinstance(name, ast.Name) and isinstance(text, ast.Constant):
                    found[name.id] = str(text.value)
    return found


def _text(node: ast.expr, constants: dict[str, str]) -> str:
    if isinstance(node, ast.Constant):
        return str(node.value)
    return constants.get(node.id, "") if isinstance(node, ast.Name) else ""
