"""The Dockerfile makes every image that the manifests name: with what it needs, and as it will be run.

Nothing is built here: `make check-images` builds and runs them.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from components.image import PIPELINES_IMAGE
from tests.dockerfile import Dockerfile, copies
from tests.unit.inference_services.test_extras import (
    CORE,
    OURS,
    PACKAGES,
    PROJECT,
    imports,
    listed,
    path_of,
)

ROOT = Path(__file__).parents[2]
FILE = Dockerfile.read(ROOT / "Dockerfile")
TARGETS = FILE.targets()
UID = 10001
# Jobs, not servers: nobody asks them whether they are well.
JOBS = {"fraud-pipelines"}
EXTRAS = {
    "fraud-transformer": "transformer",
    "fraud-lightgbm-predictor": "lightgbm-predictor",
    "fraud-gnn-predictor": "gnn-predictor",
    "fraud-drift": "drift",
    "fraud-decision-log": "decision-log",
    "fraud-features": "features",
    "fraud-pipelines": "pipelines",
}


def containers(thing: Any) -> Iterator[dict[str, Any]]:
    """Every container, or step, in a manifest."""
    if isinstance(thing, dict):
        if "image" in thing:
            yield thing
        for value in thing.values():
            yield from containers(value)
    elif isinstance(thing, list):
        for value in thing:
            yield from containers(value)


def ours() -> list[dict[str, Any]]:
    """The containers of the manifests that run an image of ours."""
    documents = [d for p in (ROOT / "manifests").rglob("*.yaml") for d in yaml.safe_load_all(p.read_text())]
    return [c for c in containers(documents) if str(c["image"]).startswith("fraud-")]


def test_every_image_of_the_manifests_has_a_target_of_this_version() -> None:
    named = {container["image"] for container in ours()} | {PIPELINES_IMAGE}
    assert len(named) >= 5
    assert {name.partition(":")[0] for name in named} <= set(TARGETS)
    assert {name.partition(":")[2] for name in named} == {PROJECT["version"]}
    assert FILE.last(TARGETS[0], "LABEL")
    assert dict(r.split("=") for i, r in FILE.steps(TARGETS[0]) if i == "ARG")["VERSION"] == PROJECT["version"]


def test_make_builds_every_target() -> None:
    makefile = (ROOT / "Makefile").read_text().replace("\\\n", " ")
    match = re.search(r"^IMAGES := (.*)$", makefile, re.MULTILINE)
    assert match
    assert match[1].split() == TARGETS == list(EXTRAS)


def test_the_only_image_from_outside_is_the_base_which_is_given() -> None:
    outside = {stage.base for stage in FILE.stages.values()} - set(FILE.stages)
    assert outside == {"${BASE_IMAGE}"}
    assert re.fullmatch(r"python:3\.11-slim-\w+(@sha256:[0-9a-f]{64})?", FILE.arguments["BASE_IMAGE"])
    assert "latest" not in (ROOT / "Dockerfile").read_text()


@pytest.mark.parametrize("target", TARGETS)
def test_an_image_runs_without_rights_on_a_read_only_root(target: str) -> None:
    assert FILE.last(target, "USER") == f"{UID}:{UID}"
    environment = FILE.environment(target)
    assert environment["PYTHONDONTWRITEBYTECODE"] == "1"
    assert environment["HOME"] == "/tmp"  # noqa: S108
    assert environment["OMP_WAIT_POLICY"] == "passive"
    assert environment["PATH"].startswith("/opt/venv/bin:")


def test_the_manifests_run_them_as_the_same_user() -> None:
    users = {c["securityContext"]["runAsUser"] for c in ours() if "securityContext" in c}
    assert users == {UID}


@pytest.mark.parametrize("target", TARGETS)
def test_a_server_says_whether_it_is_well(target: str) -> None:
    check = FILE.last(target, "HEALTHCHECK")
    if target in JOBS:
        assert check == "NONE"
        return
    assert "CMD [" in check
    port = re.search(r"127\.0\.0\.1:(\d+)", FILE.environment(target)["HEALTH_URL"])
    assert port
    assert port[1] in FILE.last(target, "EXPOSE").split()


@pytest.mark.parametrize("target", TARGETS)
def test_an_image_says_what_it_is(target: str) -> None:
    labels = {name.removeprefix("org.opencontainers.image."): text for name, text in FILE.labels(target).items()}
    assert labels["title"] == target
    assert {"description", "licenses", "revision", "vendor", "version"} <= labels.keys()


@pytest.mark.parametrize("target", TARGETS)
def test_a_command_is_the_manifest_s_and_needs_no_shell(target: str) -> None:
    command = FILE.command(target)
    assert command[:2] == ["python", "-m"]
    for container in ours():
        if container["image"].startswith(f"{target}:") and target not in JOBS:
            # Two processes may run from one image: what the image starts by itself is one of them.
            assert container["command"][:2] == command[:2]
            assert any(f"{container['command'][2]}.".startswith(f"{p}.") for p in PACKAGES[EXTRAS[target]])


def reached(packages: list[str]) -> set[str]:
    """The folders of ours that an image's packages import, at whatever distance."""
    files = [file for package in packages for file in (ROOT / package.replace(".", "/")).rglob("*.py")]
    todo = [".".join(file.relative_to(ROOT).with_suffix("").parts) for file in files]
    seen: set[str] = set()
    while todo:
        name = todo.pop()
        path = path_of(name)
        if name in seen or path is None:
            continue
        seen.add(name)
        todo += [name.rpartition(".")[0]] if "." in name else []
        found = imports(ast.parse(path.read_text()).body, inside_functions=True)
        todo += [found_name for found_name in found if found_name.split(".")[0] in OURS]
    return {name.split(".")[0] for name in seen}


@pytest.mark.parametrize("target", TARGETS)
def test_an_image_holds_its_extra_and_the_packages_that_it_imports(target: str) -> None:
    sources = list(copies(FILE.stages[target]))
    extra = EXTRAS[target]
    assert (f"{extra}-venv", "/opt/venv") in sources
    (install,) = [rest for i, rest in FILE.stages[f"{extra}-venv"].steps if i == "RUN" and "of_extra.py" in rest]
    assert f"of_extra.py pyproject.toml {extra} > extra.txt" in install
    assert f"-c {'drift' if extra == 'drift' else 'all'}.txt -r extra.txt" in install
    held = {path.removeprefix("/app").strip("/") for source, path in sources if source == "code"}
    held = set(OURS) - {"simulators"} if "" in held else held
    # Only the command line reaches the simulators, which no image has.
    assert reached(PACKAGES[extra]) - {"simulators"} == held
    assert any(f"{FILE.command(target)[2]}.".startswith(f"{package}.") for package in PACKAGES[extra])


@pytest.mark.parametrize("extra", EXTRAS.values())
def test_what_is_installed_is_the_extra_at_the_versions_of_the_lock(extra: str) -> None:
    command = [sys.executable, "requirements/of_extra.py", "pyproject.toml", extra]
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    assert listed(printed) == listed(PROJECT["optional-dependencies"][extra]) | CORE
    lock = (ROOT / f"requirements/{'drift' if extra == 'drift' else 'all'}.txt").read_text()
    pinned = {name.lower().replace("_", "-") for name in re.findall(r"^([\w.-]+)==", lock, re.MULTILINE)}
    assert listed(printed) <= pinned


def test_the_build_takes_nothing_but_what_it_copies() -> None:
    """`.dockerignore` begins by leaving everything out."""
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    ignored = [line for line in lines if line and not line.startswith("#")]
    assert ignored[0] == "*"
    let_in = {line[1:] for line in ignored if line.startswith("!")}
    assert let_in == {path for stage in FILE.stages.values() for source, path in copies(stage) if not source}


def test_no_step_leaves_behind_what_a_careful_reader_would_object_to() -> None:
    for stage in FILE.stages.values():
        for instruction, rest in stage.steps:
            assert instruction not in {"ADD", "MAINTAINER", "ONBUILD", "SHELL"}
            if instruction == "RUN":
                assert not re.search(r"\bsudo\b|curl|wget|chmod 777|upgrade", rest)
                if "apt-get install" in rest:
                    assert "--no-install-recommends" in rest
                    assert "--yes" in rest
                    assert "rm -rf /var/lib/apt/lists/*" in rest
            if instruction == "WORKDIR":
                assert rest.startswith("/")
            if instruction in {"CMD", "ENTRYPOINT"}:
                assert rest.startswith("[")


def test_no_package_index_nor_credential_gets_into_an_image() -> None:
    text = "\n".join(rest for stage in FILE.stages.values() for _, rest in stage.steps)
    assert not re.search(r"https?://(?!127\.0\.0\.1:)", text)
    assert not re.search(r"index-url|find-links|trusted-host|token|password", text, re.IGNORECASE)
    installs = [rest for stage in FILE.stages.values() for i, rest in stage.steps if i == "RUN" and "$INSTALL" in rest]
    assert len(installs) == len(EXTRAS)
    assert all(rest.startswith("--mount=type=secret,id=pip,target=/etc/pip.conf ") for rest in installs)
    for target in TARGETS:
        assert not any("pip" in rest.split() for i, rest in FILE.steps(target) if i == "RUN")
