"""Images: never a floating tag, ours at this version, in production by digest alone."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator

from tests.manifest_checks.building import ROOT
from tests.manifest_checks.built import Built
from tests.manifest_checks.finding import Finding, once

_DIGEST = re.compile(r"@sha256:[0-9a-f]{64}$")
_FLOATING = {"", "latest", "stable", "main", "master", "edge", "nightly"}
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
# Overlays that may only name what was built once and never changes.
PINNED = "production"


def is_ours(image: str) -> bool:
    return image.rpartition("/")[2].startswith("fraud-")


def tag(image: str) -> str:
    """The tag of an image, empty without one; a registry's port is none."""
    return image.partition("@")[0].rpartition("/")[2].partition(":")[2]


def named(built: Built) -> Iterator[tuple[str, str, str]]:
    """Object, path and image of every container and step."""
    for _, container in built.containers():
        yield container.object, f"{container.path}.image", str(container.spec.get("image", ""))
    for step in built.steps:
        yield step.object, f"{step.path}.image", str(step.container.get("image", ""))


@once
def check(built: Built) -> Iterator[Finding]:
    # `make pin-images` compiles the pipelines again with the digest in them.
    compiled = {step.object for step in built.steps}
    for thing, path, image in named(built):
        digest = _DIGEST.search(image)
        if not image:
            yield Finding(thing, path, "no image")
        elif "@" in image and not digest:
            yield Finding(thing, path, f"{image} has a digest that is none")
        elif not digest and tag(image) in _FLOATING:
            yield Finding(thing, path, f"{image} has no fixed tag")
        elif is_ours(image) and not digest and tag(image) != VERSION:
            yield Finding(thing, path, f"{image} is not of version {VERSION}")
        elif PINNED in built.name and not digest and thing not in compiled:
            yield Finding(thing, path, f"{image} is not named by digest")
