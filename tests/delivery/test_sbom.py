"""The bill of an image's packages is what pip installs there: its extra, at the versions of the lock."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packaging.utils import canonicalize_name

from requirements.of_extra import requirements
from requirements.sbom import CannotList, Environment, closure, licenses, main
from tests.unit.inference_services.test_extras import CORE, PROJECT, ROOT, listed

LOCK = {
    canonicalize_name(name): version
    for name, version in re.findall(r"^([\w.-]+)==(\S+)", (ROOT / "requirements/all.txt").read_text(), re.MULTILINE)
}
IMAGE = "fraud-decision-log"


@pytest.fixture(scope="module")
def here() -> Environment:
    return Environment.read(ROOT / "requirements" / "all.txt", ROOT / ".venv")


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("sbom")
    assert main([str(folder), IMAGE]) == 0
    return (folder / f"{IMAGE}.cdx.json").read_text()


def test_it_is_valid_cyclonedx(document: str) -> None:
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(document) is None


def test_every_package_of_the_extra_is_listed_at_its_locked_version(document: str) -> None:
    bill = json.loads(document)
    found = {component["name"]: component["version"] for component in bill["components"]}
    assert listed(PROJECT["optional-dependencies"]["decision-log"]) | CORE <= found.keys()
    assert found == {name: LOCK[name] for name in found}
    assert all(c["purl"] == f"pkg:pypi/{c['name']}@{c['version']}" for c in bill["components"])
    assert all(component["licenses"] for component in bill["components"])
    assert bill["metadata"]["component"]["name"] == IMAGE
    assert bill["metadata"]["component"]["version"] == PROJECT["version"]


def test_what_a_package_needs_is_listed_too_and_what_the_tests_need_is_not(here: Environment) -> None:
    needs = closure(here, [*PROJECT["dependencies"], *requirements(PROJECT, "transformer")])
    assert "starlette" in needs["fastapi"]
    assert needs.keys() >= {name for needed in needs.values() for name in needed}
    assert not needs.keys() & {"pytest", "ruff", "torch", "lightgbm"}


def test_a_requirement_of_an_extra_is_followed_only_when_it_was_asked_for(here: Environment) -> None:
    assert "pandas" in closure(here, ["pandera[pandas]"])
    assert "pandas" not in closure(here, ["pandera"])


def test_the_bill_of_the_same_packages_has_the_same_serial_number(document: str, tmp_path: Path) -> None:
    assert main([str(tmp_path), IMAGE]) == 0
    again = json.loads((tmp_path / f"{IMAGE}.cdx.json").read_text())
    assert again["serialNumber"] == json.loads(document)["serialNumber"]


def test_another_version_than_the_lock_s_is_refused(here: Environment) -> None:
    other = Environment({**here.lock, "redis": "0.0.1"}, here.packages)
    with pytest.raises(CannotList, match=r"redis: the lock says 0\.0\.1, installed is .*make env"):
        closure(other, ["redis"])
    with pytest.raises(CannotList, match="absent: the lock says None, installed is nothing"):
        closure(here, ["absent"])


def test_a_licence_is_an_expression_or_a_name(here: Environment) -> None:
    assert licenses(here.package("numpy")) == [here.packages["numpy"].metadata["License-Expression"]]
    assert licenses(here.package("hiredis")) == ["MIT License"]
