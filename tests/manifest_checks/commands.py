"""What a container of ours is started with: a module that exists, options and variables that it knows."""

from __future__ import annotations

import functools
import importlib.util
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from tests.manifest_checks import our_code
from tests.manifest_checks.built import Built, Container
from tests.manifest_checks.finding import Finding, once, title, walk
from tests.manifest_checks.images import is_ours

_OPTION = re.compile(r"^(--[a-z][\w-]*)")


@once
def check(built: Built) -> Iterator[Finding]:
    for _, container in built.containers():
        yield from _references(container)
        if not is_ours(str(container.spec.get("image", ""))):
            continue
        command = [str(word) for word in container.spec.get("command") or []]
        if command[:2] != ["python", "-m"] or len(command) < 3:
            yield Finding(container.object, f"{container.path}.command", "it is not `python -m` and a module")
            continue
        if our_code.module_file(command[2]) is None:
            yield Finding(container.object, f"{container.path}.command", f"there is no module {command[2]}")
            continue
        yield from _options(container, command)
        yield from _variables(container, command[2])


def _options(container: Container, command: list[str]) -> Iterator[Finding]:
    words = [*command[3:], *(str(word) for word in container.spec.get("args") or [])]
    for word in words:
        match = _OPTION.match(word)
        if match and match[1] not in _known_options(command[2]):
            yield Finding(container.object, f"{container.path}.args", f"{command[2]} has no option {match[1]}")


@functools.cache
def _known_options(module: str) -> frozenset[str]:
    """Options that the module and what it imports add, and KServe's where it runs that server."""
    files = our_code.reached(module)
    found = {option for file in files for option in our_code.options(file)}
    if any("kserve" in file.read_text("utf-8") for file in files):
        found |= _kserve_options()
    return frozenset(found)


@functools.cache
def _kserve_options() -> frozenset[str]:
    return frozenset(re.findall(r"\"(--[a-z][\w-]*)\"", _kserve("model_server.py")))


def _kserve(file: str) -> str:
    """A file of the installed KServe, which takes seconds to import."""
    spec = importlib.util.find_spec("kserve")
    assert spec is not None
    assert spec.origin is not None
    return (Path(spec.origin).parent / file).read_text("utf-8")


def _references(container: Container) -> Iterator[Finding]:
    for word in [*(container.spec.get("command") or []), *(container.spec.get("args") or [])]:
        for name in re.findall(r"(?<!\$)\$\((\w+)\)", str(word)):
            if name not in container.env:
                yield Finding(container.object, f"{container.path}.args", f"{word} asks for {name}, which is not set")


@once
def check_environment(built: Built) -> Iterator[Finding]:
    """No variable is set twice: the last one counts, and a reader sees the first."""
    for thing in built.objects:
        for path, node in walk(thing):
            names = Counter(entry["name"] for entry in node["env"]) if isinstance(node.get("env"), list) else {}
            for name, count in names.items():
                if count > 1:
                    yield Finding(title(thing), f"{path}.env", f"{name} is set {count} times")


@once
def check_probes(built: Built) -> Iterator[Finding]:
    """A probe asks for a path that the module serves."""
    for _, container in built.containers():
        command = [str(word) for word in container.spec.get("command") or []]
        if command[:2] != ["python", "-m"] or our_code.module_file(command[2]) is None:
            continue
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            path = ((container.spec.get(probe) or {}).get("httpGet") or {}).get("path")
            if path is not None and path not in _served_paths(command[2]):
                yield Finding(container.object, f"{container.path}.{probe}", f"{command[2]} does not serve {path}")


@functools.cache
def _served_paths(module: str) -> frozenset[str]:
    """Paths that the module's code names, KServe's where it runs that server, and Prometheus' page."""
    texts = [file.read_text("utf-8") for file in our_code.reached(module)]
    found = {path for text in texts for path in re.findall(r"\"(/[\w/]+)\"", text)}
    if any("start_http_server" in text for text in texts):
        found.add("/metrics")
    if any("kserve" in text for text in texts):
        found |= {f"/v2{path}" for path in re.findall(r"\"(/health/\w+)\"", _kserve("protocol/rest/v2_endpoints.py"))}
    return frozenset(found)


def _variables(container: Container, module: str) -> Iterator[Finding]:
    classes, by_name = our_code.settings_of(module)
    given = {name for name in container.env if name.startswith(our_code.PREFIX)}
    for name in sorted(given - by_name):
        if not any(settings.knows(name) for settings in classes):
            yield Finding(container.object, f"{container.path}.env", f"{module} has no setting {name}")
    for settings in classes:
        if any(settings.knows(name) for name in given):
            for field in sorted(settings.required):
                if f"{settings.prefix}{field}" not in given:
                    yield Finding(container.object, f"{container.path}.env", f"{settings.prefix}{field} is not set")
