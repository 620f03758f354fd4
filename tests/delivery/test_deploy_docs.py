"""docs/deploy.md: its commands can be read, and what they name exists."""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped]
import pytest
import typer
import yaml

from tests.delivery.page import PAGE, TEXT, Block, blocks, commands, of_program
from tests.delivery.workflows import ROOT, WORKFLOWS, make_targets

MANIFESTS = ROOT / "manifests"
CONSOLE = ROOT / "docs" / "deploy" / "console.yaml"
OVERLAYS = sorted(path.name for path in (MANIFESTS / "overlays").iterdir())
KUBECTL = shutil.which("kubectl")
needs_kubectl = pytest.mark.skipif(KUBECTL is None, reason="no kubectl on PATH: no overlay can be built")
SHORT = {"isvc": "inferenceservice", "pvc": "persistentvolumeclaim"}


@pytest.mark.parametrize("block", blocks(), ids=lambda block: f"line {block.line}")
def test_a_shell_can_read_the_commands(block: Block) -> None:
    done = subprocess.run(["bash", "-n"], input=block.script, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("script", "found"),
    [
        ("make a B=1\nfraud b --c", [["make", "a", "B=1"], ["fraud", "b", "--c"]]),
        ("A=1 fraud x \\\n  --y | sed s/a/b/", [["fraud", "x", "--y"], ["sed", "s/a/b/"]]),
        ("for a in b; do\n  make c\ndone", [["for", "a", "in", "b"], ["make", "c"], ["done"]]),
    ],
)
def test_commands_are_found_in_a_script(script: str, found: list[list[str]]) -> None:
    assert list(commands(script)) == found


def test_the_targets_of_make_exist_and_so_do_the_overlays_that_they_are_given() -> None:
    called = of_program("make")
    assert {words[0] for words in called} <= make_targets()
    assert {words[0] for words in called} >= {"images", "push-images", "pin-images", "deploy"}
    given = {word.partition("=")[2] for words in called for word in words if word.startswith("OVERLAY=")}
    assert given <= set(OVERLAYS)
    for named in re.findall(r"`make ([a-z-]+)", TEXT):
        assert named in make_targets()


def command_of(words: list[str]) -> tuple[Any, list[str]]:
    """The command of `fraud` that words call, and the words after its name."""
    from pipelines.cli import app

    command: Any = typer.main.get_command(app)
    while hasattr(command, "commands"):
        assert words[0] in command.commands, f"fraud has no {words[0]}"
        command, words = command.commands[words[0]], words[1:]
    return command, words


@pytest.mark.parametrize("words", of_program("fraud"), ids=" ".join)
def test_a_command_of_fraud_exists_and_has_these_options(words: list[str]) -> None:
    command, rest = command_of(words)
    given = {word.partition("=")[0] for word in rest if word.startswith("--")}
    options = [parameter for parameter in command.params if parameter.param_type_name == "option"]
    assert given <= {name for option in options for name in [*option.opts, *option.secondary_opts]}
    assert {option.opts[-1] for option in options if option.required} <= given


def paths() -> set[str]:
    """What looks like a path of the repository, in the text and in the commands."""
    found = re.findall(r"(?<![\w/.-])((?:manifests|docs|feature_repo|simulators|tests|\.github)/[\w./-]*\w)", TEXT)
    components = re.findall(r"`(components/[\w./-]+)`", TEXT)
    overlays = re.findall(r"`(overlays/\w+)`", TEXT)
    return {*found, *(f"manifests/{path}" for path in components + overlays)}


@pytest.mark.parametrize("path", sorted(paths()))
def test_a_file_that_is_named_exists(path: str) -> None:
    assert (ROOT / path).exists()


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\(([^)]+)\)", TEXT))))
def test_a_link_leads_to_a_page_and_to_a_heading(link: str) -> None:
    name, _, anchor = link.partition("#")
    page = (PAGE.parent / name).read_text()
    headings = [re.sub(r"[^\w -]", "", h).lower().replace(" ", "-") for h in re.findall(r"^#+ (.*)$", page, re.M)]
    assert not anchor or anchor in headings


@functools.cache
def objects() -> list[dict[str, Any]]:
    """Every object in the manifests, whether an overlay uses it or not, and those beside this page."""
    files = [path for path in [*MANIFESTS.rglob("*.yaml"), CONSOLE] if path.name != "kustomization.yaml"]
    found = [thing for path in files for thing in yaml.safe_load_all(path.read_text())]
    return [thing for thing in found if isinstance(thing, dict) and "kind" in thing and "metadata" in thing]


def names(kind: str) -> set[str]:
    return {thing["metadata"]["name"] for thing in objects() if thing["kind"].lower() == kind}


def test_what_kubectl_is_asked_for_exists() -> None:
    asked = [word for words in of_program("kubectl") for word in words]
    made = {words[2] for words in of_program("kubectl") if words[:2] == ["create", "job"]}
    found = 0
    for word in asked:
        match = re.fullmatch(r"(?:--from=)?(cronjob|service|pod|job|inferenceservice|isvc|configmap)/([\w-]+)", word)
        if match and match[2] != "config-features":
            kind = SHORT.get(match[1], match[1])
            assert match[2] in (made if kind == "job" else names(kind)), word
            found += 1
    assert found > 8
    in_namespace = [words for words in of_program("kubectl") if words[:1] != ["kustomize"] and "--namespace" in words]
    assert {words[words.index("--namespace") + 1] for words in in_namespace} == {"fraud", "knative-serving"}


def references(thing: Any) -> Iterator[tuple[str, set[str]]]:
    """(secret, keys that must be in it) of everything that a manifest reads."""
    if isinstance(thing, dict):
        if isinstance(thing.get("secretKeyRef"), dict) and not thing["secretKeyRef"].get("optional"):
            yield thing["secretKeyRef"]["name"], {thing["secretKeyRef"]["key"]}
        if "secretName" in thing and not thing.get("optional"):
            yield thing["secretName"], {item["key"] for item in thing.get("items", [])}
        for reference in thing.get("secretTargetRef", []):
            yield reference["name"], {reference["key"]}
        for value in thing.values():
            yield from references(value)
    elif isinstance(thing, list):
        for value in thing:
            yield from references(value)


@functools.cache
def built(overlay: str) -> list[dict[str, Any]]:
    command = [str(KUBECTL), "kustomize", str(MANIFESTS / "overlays" / overlay)]
    return list(yaml.safe_load_all(subprocess.run(command, capture_output=True, text=True, check=True).stdout))


def made_secrets(folder: Path, overlay: str) -> dict[str, dict[str, Any]]:
    """Runs the page's commands for an overlay's secrets; kubectl prints what it would create."""
    (folder / "bin").mkdir()
    fake = folder / "bin" / "kubectl"
    fake.write_text(
        f'#!/bin/sh\ntest "$1" = create || exit 0\n{KUBECTL} "$@" --dry-run=client --output=yaml\necho ---\n'
    )
    fake.chmod(0o755)
    (folder / "manifests").symlink_to(MANIFESTS)
    script = "set -euo pipefail\n" + "\n".join(
        b.script for b in blocks() if b.mark in {"secrets", f"secrets: {overlay}"}
    )
    environment = {**os.environ, "PATH": f"{folder / 'bin'}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-c", script], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    made = [secret for secret in yaml.safe_load_all(done.stdout) if secret]
    assert {secret["metadata"]["namespace"] for secret in made} == {"fraud"}
    return {secret["metadata"]["name"]: secret["data"] for secret in made}


@needs_kubectl
@pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl on PATH: no passwords can be made")
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_secrets_are_those_that_the_overlay_reads(overlay: str, tmp_path: Path) -> None:
    made = made_secrets(tmp_path, overlay)
    wanted = [*references(built(overlay)), *references(yaml.safe_load(CONSOLE.read_text()))]
    assert len(wanted) > 5
    for name, keys in wanted:
        assert keys <= made.get(name, {}).keys(), f"{name} {keys}"
    assert all(value for data in made.values() for value in data.values())
    private = [path for path in (tmp_path / ".local" / "secrets").iterdir() if path.stat().st_mode & 0o077]
    assert private == []


def test_no_hash_is_missing_from_the_users_of_redis(tmp_path: Path) -> None:
    users = (MANIFESTS / "components/redis_tls/users.example.acl").read_text()
    loop = re.search(r"for user in (.*); do\n  password=", TEXT)
    assert loop
    assert loop[1].split() == re.findall(r"^user (\S+) on #", users, re.MULTILINE)


def test_the_console_is_a_pod_that_the_namespace_admits() -> None:
    console = yaml.safe_load(CONSOLE.read_text())
    kubernetes_validate.validate(console, "1.32", strict=True)
    claims = {
        v["persistentVolumeClaim"]["claimName"] for v in console["spec"]["volumes"] if "persistentVolumeClaim" in v
    }
    assert claims <= names("persistentvolumeclaim")
    assert console["spec"]["serviceAccountName"] in names("serviceaccount")
    (container,) = console["spec"]["containers"]
    assert container["securityContext"]["allowPrivilegeEscalation"] is False
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert console["spec"]["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}


def test_what_github_must_be_given_is_listed() -> None:
    files = "\n".join(path.read_text() for path in WORKFLOWS)
    used = set(re.findall(r"\b(?:vars|secrets)\.([A-Z_]+)", files)) - {"GITHUB_TOKEN"}
    table = TEXT[TEXT.index("| `IMAGE_REGISTRY`") : TEXT.index("MLflow's webhook")]
    rows = re.findall(r"^\| (.*?) \|", table, re.MULTILINE)
    assert {name for row in rows for name in re.findall(r"`([A-Z_]+)`", row)} == used
    assert set(re.findall(r"environment: (\S+)", files)) == {"production"}


def test_the_versions_are_those_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert "kserve==0.21.*" in project["transformer"]
    assert "`kserve` 0.21 is the client" in TEXT
    assert "kfp==2.17.0" in project["pipelines"]
    assert re.search(r"\| Kubeflow Pipelines \| 2\.17[ ,]", TEXT)
