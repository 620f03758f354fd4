"""`python requirements/sbom.py FOLDER IMAGE...`: writes `FOLDER/IMAGE.cdx.json`, the Python packages of each image.

CycloneDX 1.6. An image holds its extra and all that this needs, at the versions of the lock; what needs what, and the
licences, are read from the environment that was made from the same lock. Packages of the base image are not in it.
"""

from __future__ import annotations

import argparse
import re
import sys
import tomllib
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.license import License
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from requirements.of_extra import requirements

ROOT = Path(__file__).parents[1]
_UNCLEAR = {"Other/Proprietary License", "OSI Approved", "DFSG approved", "Freely Distributable"}


class CannotList(Exception):
    """The environment is not the one that the lock describes; the message says what to do."""


@dataclass(frozen=True)
class Environment:
    """Installed packages, and the lock that they were installed from.

    Attributes:
        lock: name -> version.
        packages: what is installed, by name.
    """

    lock: Mapping[str, str]
    packages: Mapping[str, metadata.Distribution]

    @classmethod
    def read(cls, lock: Path, environment: Path) -> Environment:
        """Reads a compiled requirements file and the environment that was made from it."""
        pins = re.findall(r"^([\w.-]+)==(\S+)", lock.read_text(), re.MULTILINE)
        (site,) = environment.glob("lib/python3.*/site-packages")
        found = metadata.distributions(path=[str(site)])
        return cls(
            {canonicalize_name(name): version for name, version in pins},
            {canonicalize_name(package.name): package for package in found},
        )

    def package(self, name: str) -> metadata.Distribution:
        """The installed package of the version that the lock names.

        Raises:
            CannotList: it is another one, or none.
        """
        locked, found = self.lock.get(name), self.packages.get(name)
        if locked is None or found is None or found.version.partition("+")[0] != locked:
            installed = "nothing" if found is None else found.version
            raise CannotList(f"{name}: the lock says {locked}, installed is {installed}: run `make env`")
        return found


def closure(environment: Environment, wanted: Sequence[str]) -> dict[str, set[str]]:
    """All packages that requirements lead to: name -> names of what it needs itself.

    Raises:
        CannotList: one of them is not installed as locked.
    """
    needs: dict[str, set[str]] = {}
    seen: set[tuple[str, str]] = set()
    todo = [found for line in wanted for found in _applying(line, "")]
    while todo:
        requirement = todo.pop()
        name = canonicalize_name(requirement.name)
        for extra in {"", *requirement.extras}:
            if (name, extra) in seen:
                continue
            seen.add((name, extra))
            lines = environment.package(name).requires or []
            found = [needed for line in lines for needed in _applying(line, extra)]
            needs.setdefault(name, set()).update(canonicalize_name(needed.name) for needed in found)
            todo += found
    return needs


def _applying(line: str, extra: str) -> Iterator[Requirement]:
    """The requirement of a line, when its marker holds here and for an extra of the package whose line it is."""
    requirement = Requirement(line)
    if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
        yield requirement


def licenses(package: metadata.Distribution) -> list[str]:
    """What a package says its licences are: an SPDX expression if it gives one, else names, or nothing.

    Several names leave open whether all of them apply or any.
    """
    told = package.metadata
    if "License-Expression" in told:
        return [told["License-Expression"]]
    classified = {line.rpartition(" :: ")[2] for line in told.get_all("Classifier") or [] if line.startswith("License")}
    if named := sorted(classified - _UNCLEAR):
        return named
    free = told["License"].strip() if "License" in told else ""
    # Some put the whole text of the licence there.
    return [free] if 0 < len(free) < 60 and free != "UNKNOWN" else []


def bill(environment: Environment, image: str, version: str, wanted: Sequence[str]) -> Bom:
    """The bill of an image's Python packages; the same input gives the same serial number."""
    needs = closure(environment, wanted)
    components = {name: _component(environment.package(name)) for name in needs}
    contents = "\n".join(sorted(str(component.purl) for component in components.values()))
    bom = Bom(
        components=components.values(), serial_number=uuid.uuid5(uuid.NAMESPACE_URL, f"{image} {version} {contents}")
    )
    bom.metadata.component = Component(
        name=image, version=version, type=ComponentType.CONTAINER, bom_ref=image, licenses=[_license("Apache-2.0")]
    )
    top = {canonicalize_name(found.name) for line in wanted for found in _applying(line, "")}
    bom.register_dependency(bom.metadata.component, [components[name] for name in top])
    for name, needed in needs.items():
        bom.register_dependency(components[name], [components[other] for other in needed])
    return bom


def environment_of(image: str) -> tuple[Environment, list[str]]:
    """What an image is made from: the environment of its lock, and the requirements of its extra."""
    project = _project()
    extra = image.removeprefix("fraud-")
    lock, folder = ("drift.txt", ".venv-drift") if extra == "drift" else ("all.txt", ".venv")
    environment = Environment.read(ROOT / "requirements" / lock, ROOT / folder)
    return environment, [*project["dependencies"], *requirements(project, extra)]


def _project() -> Any:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def _component(package: metadata.Distribution) -> Component:
    name, version = canonicalize_name(package.name), package.version.partition("+")[0]
    return Component(
        name=name,
        version=version,
        type=ComponentType.LIBRARY,
        purl=PackageURL("pypi", None, name, version),
        bom_ref=f"{name}=={version}",
        licenses=[_license(told) for told in licenses(package)],
    )


def _license(text: str) -> License:
    return LicenseFactory().make_from_string(text)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("images", nargs="+")
    given = parser.parse_args(arguments)
    given.folder.mkdir(parents=True, exist_ok=True)
    for image in given.images:
        environment, wanted = environment_of(image)
        try:
            bom = bill(environment, image, _project()["version"], wanted)
        except CannotList as problem:
            sys.stderr.write(f"{image}: {problem}\n")
            return 1
        path = given.folder / f"{image}.cdx.json"
        path.write_text(JsonV1Dot6(bom).output_as_string(indent=2) + "\n")
        unknown = [component.name for component in bom.components if not component.licenses]
        sys.stdout.write(
            f"{path}: {len(bom.components)} packages, no licence told by: {', '.join(unknown) or 'none'}\n"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
