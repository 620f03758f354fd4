"""`python manifests/pin_images.py OVERLAY DIGEST...`: writes the digests of pushed images into an overlay.

OVERLAY is a kustomization.yaml with an `images:` list, each DIGEST a file that `make push-images` wrote: one reference,
`registry/fraud-x@sha256:...`. Every image of the list must be among them, and no other: what runs is what was built.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

_REFERENCE = re.compile(
    r"(?P<repository>[\w.-]+(:\d+)?(/[\w.-]+)*/(?P<name>fraud-[a-z-]+))@(?P<digest>sha256:[0-9a-f]{64})"
)
# The list ends with the first line that is neither indented nor an entry.
_BLOCK = re.compile(r"^images:\n(?:[ -].*\n)+", re.MULTILINE)


class CannotPin(Exception):
    """The digests and the overlay do not fit; the message says which image, and why."""


@dataclass(frozen=True)
class Pushed:
    """An image in a registry.

    Attributes:
        name: what the manifests call it.
        repository: the registry's name for it.
        digest: of its manifest, `sha256:...`.
    """

    name: str
    repository: str
    digest: str

    @classmethod
    def parse(cls, reference: str) -> Pushed:
        """Reads `registry/fraud-x@sha256:...`.

        Raises:
            CannotPin: it is anything else, a tag for example.
        """
        found = _REFERENCE.fullmatch(reference.strip())
        if found is None:
            raise CannotPin(
                f"not a digest of an image of ours: {reference.strip()!r}, want registry/fraud-x@sha256:..."
            )
        return cls(found["name"], found["repository"], found["digest"])


def pin(overlay: str, references: Iterable[str]) -> str:
    """The overlay's text with every image of its list at its digest; all else, comments too, stays as it is.

    Raises:
        CannotPin: a reference has no digest, or images are missing, unknown, or there twice.
    """
    block = _BLOCK.search(overlay)
    if block is None:
        raise CannotPin("the overlay has no list `images:`")
    wanted = [image["name"] for image in yaml.safe_load(block[0])["images"]]
    pushed: dict[str, Pushed] = {}
    for image in map(Pushed.parse, references):
        if image.name in pushed and pushed[image.name] != image:
            raise CannotPin(f"{image.name} was pushed twice: {pushed[image.name].digest}, {image.digest}")
        pushed[image.name] = image
    if missing := [name for name in wanted if name not in pushed]:
        raise CannotPin(f"no digest of {', '.join(missing)}: push them first")
    if unknown := sorted(pushed.keys() - set(wanted)):
        raise CannotPin(f"the overlay does not use {', '.join(unknown)}: it uses {', '.join(wanted)}")
    entries = [_entry(pushed[name]) for name in wanted]
    return overlay[: block.start()] + "images:\n" + "".join(entries) + overlay[block.end() :]


def _entry(image: Pushed) -> str:
    return f"  - name: {image.name}\n    newName: {image.repository}\n    digest: {image.digest}\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("overlay", type=Path)
    parser.add_argument("digests", type=Path, nargs="+")
    given = parser.parse_args(arguments)
    try:
        text = pin(given.overlay.read_text(), [path.read_text() for path in given.digests])
    except (CannotPin, OSError) as problem:
        sys.stderr.write(f"{problem}\n")
        return 1
    given.overlay.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
