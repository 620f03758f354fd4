"""Every overlay builds, every component builds on the smallest, and no check has anything to say of either."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.manifest_checks import ALONE, CHECKS, building, custom_kinds, findings
from tests.manifest_checks.built import Built
from tests.manifest_checks.core_kinds import is_core

NO_KUBECTL = building.without_kubectl()
BUILDS = building.builds()
# The worker takes this option together with the leases that let it have replicas; the bridge learns of clusters, and
# the images of others get their digests.
AWAITED = re.compile(
    r"feature_repo\.streaming\.worker has no option --metrics-host|FRAUD_DRIFT_BRIDGE_REDIS_TYPE"
    r"|(postgres|redis|mlflow):\S+ is not named by digest"
)
needs_kubectl = pytest.mark.skipif(bool(NO_KUBECTL), reason=NO_KUBECTL)


def names(folders: tuple[Path, ...]) -> str:
    return "+".join(folder.name for folder in folders)


def said(built: Built, check: str) -> list[str]:
    found = findings(built, {check: CHECKS[check]})
    return [str(finding) for finding in found.get(check, [])]


@needs_kubectl
@pytest.mark.parametrize("folders", BUILDS, ids=names)
@pytest.mark.parametrize("check", CHECKS)
def test_nothing_is_found(folders: tuple[Path, ...], check: str) -> None:
    if check == "custom kinds" and not custom_kinds.CRDS.exists():
        pytest.skip(
            f"no folder {custom_kinds.CRDS} of definitions (CRD_SCHEMAS): custom kinds went through the SDK only"
        )
    assert [finding for finding in said(building.build(*folders), check) if not AWAITED.search(finding)] == []


@needs_kubectl
@pytest.mark.parametrize("folder", building.lone_kustomizations(), ids=lambda folder: folder.name)
def test_a_kustomization_of_no_overlay_holds_valid_objects(folder: Path) -> None:
    assert findings(building.build(folder), ALONE) == {}


@needs_kubectl
@pytest.mark.parametrize("folders", BUILDS, ids=names)
def test_kinds_that_no_definition_judges_are_named(folders: tuple[Path, ...]) -> None:
    unknown = custom_kinds.without_definition(building.build(*folders))
    if unknown:
        pytest.skip(f"no definition in {custom_kinds.CRDS} (CRD_SCHEMAS) of {', '.join(sorted(unknown))}: not checked")


@needs_kubectl
def test_the_builds_hold_what_the_checks_are_about() -> None:
    kinds = {thing["kind"] for folders in BUILDS for thing in building.build(*folders).objects}
    assert {"Namespace", "ConfigMap", "Deployment", "Service", "InferenceService", "ServingRuntime"} <= kinds


@needs_kubectl
def test_a_kustomization_that_does_not_build_says_why(tmp_path: Path) -> None:
    (tmp_path / "kustomization.yaml").write_text("resources: [absent.yaml]\n")
    with pytest.raises(building.DoesNotBuild, match=r"absent\.yaml"):
        building.build(tmp_path)


def test_without_kubectl_the_files_are_read_and_valid(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(building, "without_kubectl", lambda: "no kubectl")
    read = building.build.__wrapped__(building.overlays()[0])
    assert not read.whole
    assert {"Namespace", "Deployment", "InferenceService"} <= {thing["kind"] for thing in read.objects}
    assert findings(read) == {}


@pytest.mark.parametrize(
    ("version", "core"),
    [
        ("v1", True),
        ("apps/v1", True),
        ("networking.k8s.io/v1", True),
        ("gateway.networking.k8s.io/v1", False),
        ("serving.kserve.io/v1beta1", False),
    ],
)
def test_a_kind_is_kubernetes_own_by_its_group(version: str, core: bool) -> None:
    assert is_core({"apiVersion": version}) is core
