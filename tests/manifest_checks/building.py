"""What there is to build, and building it: with kubectl, or as far as reading goes without."""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import yaml

from tests.manifest_checks.built import Built
from tests.manifest_checks.finding import Object

ROOT = Path(__file__).parents[2]
MANIFESTS = ROOT / "manifests"
# The first whose kustomize knows `labels` with `includeTemplates` and replacements as we use them.
OLDEST_KUBECTL = (1, 27)


class DoesNotBuild(Exception):
    """kustomize refused; the message is its own."""


def without_kubectl() -> str:
    """Why nothing can be built here; empty when it can."""
    if shutil.which("kubectl") is None:
        return "no kubectl on PATH: the kustomizations were read, not built, and references were not checked"
    shown = subprocess.run(["kubectl", "version", "--client"], capture_output=True, text=True, check=False).stdout
    found = re.search(r"Client Version: v(\d+)\.(\d+)", shown)
    if found is None or (int(found[1]), int(found[2])) < OLDEST_KUBECTL:
        oldest = ".".join(map(str, OLDEST_KUBECTL))
        return f"kubectl {oldest} or newer is needed to build the kustomizations, found: {shown.strip()}"
    return ""


def overlays() -> list[Path]:
    return sorted(path.parent for path in (MANIFESTS / "overlays").glob("*/kustomization.yaml"))


def components() -> list[Path]:
    return sorted(path.parent for path in (MANIFESTS / "components").rglob("kustomization.yaml"))


def builds() -> list[tuple[Path, ...]]:
    """What is checked as a whole: every overlay, alone and with each component that no overlay takes."""
    alone: list[tuple[Path, ...]] = [(overlay,) for overlay in overlays()]
    return alone + [(overlay, component) for overlay in overlays() for component in unused_components()]


def unused_components() -> list[Path]:
    """Those that no overlay takes: a reader of the documents adds them to the smallest overlay."""
    used = {folder for overlay in overlays() for folder in _reached(overlay)}
    return [folder for folder in components() if folder not in used]


def lone_kustomizations() -> list[Path]:
    """Kustomizations that no build reaches, and so nothing checks."""
    used = {folder for built in builds() for start in built for folder in _reached(start)}
    return sorted({path.parent for path in MANIFESTS.rglob("kustomization.yaml")} - used)


def _reached(folder: Path) -> set[Path]:
    """The folders that a kustomization takes in, itself included."""
    kustomization = read_kustomization(folder)
    inner = [(folder / entry).resolve() for key in ("resources", "components") for entry in kustomization.get(key, [])]
    return {folder}.union(*(_reached(path) for path in inner if path.is_dir()))


def read_kustomization(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((folder / "kustomization.yaml").read_text())
    return found


@functools.cache
def build(folder: Path, *added: Path) -> Built:
    """A kustomization with the `added` components on top, once a process.

    Raises:
        DoesNotBuild: kustomize refused.
    """
    name = "+".join(
        str(path.relative_to(MANIFESTS)) if path.is_relative_to(MANIFESTS) else path.name for path in (folder, *added)
    )
    if without_kubectl():
        return Built(name, tuple(thing for path in (folder, *added) for thing in _read(path)), whole=False)
    if not added:
        return Built(name, tuple(_kustomize(folder)))
    with tempfile.TemporaryDirectory() as made:
        # kustomize takes relative folders only.
        of = [os.path.relpath(path, Path(made).resolve()) for path in (folder, *added)]
        top = {"namespace": read_kustomization(folder)["namespace"], "resources": of[:1], "components": of[1:]}
        (Path(made) / "kustomization.yaml").write_text(yaml.safe_dump(top))
        return Built(name, tuple(_kustomize(Path(made))))


def _kustomize(folder: Path) -> list[Object]:
    done = subprocess.run(["kubectl", "kustomize", folder], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise DoesNotBuild(done.stderr.strip())
    return [thing for thing in yaml.load_all(done.stdout, yaml.CSafeLoader) if thing]


def _read(folder: Path) -> list[Object]:
    """The objects as they are written: without patches, generated maps, and rewritten names and images."""
    kustomization = read_kustomization(folder)
    found: list[Object] = []
    for entry in [*kustomization.get("resources", []), *kustomization.get("components", [])]:
        path = (folder / entry).resolve()
        found += _read(path) if path.is_dir() else [t for t in yaml.safe_load_all(path.read_text()) if t]
    return found
