"""Every overlay builds, every component builds on the smallest, and no check has anything to say of either."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.manifest_checks import building, custom_kinds, findings
from tests.manifest_checks.core_kinds import is_core

ROOT = building.ROOT
NO_KUBECTL = building.without_kubectl()
BUILDS = building.builds()
needs_kubectl = pytest.mark.skipif(bool(NO_KUBECTL), reason=NO_KUBECTL)


def names(folders: tuple[Path, ...]) -> str:
    return "+".join(folder.name for folder in folders)


@needs_kubectl
@pytest.mark.parametrize("folders", BUILDS, ids=names)
def test_nothing_is_found(folders: tuple[Path, ...]) -> None:
    found = findings(building.build(*folders))
    assert [f"{check}: {finding}" for check, said in found.items() for finding in said] == []


@needs_kubectl
def test_no_kustomization_is_forgotten() -> None:
    assert building.lone_kustomizations() == []


@needs_kubectl
def test_kinds_that_no_definition_judges_are_named() -> None:
    unknown = set().union(*(custom_kinds.without_definition(building.build(*folders)) for folders in BUILDS))
    if unknown:
        kinds = ", ".join(sorted(unknown))
        pytest.skip(f"no definition in {custom_kinds.CRDS} (CRD_SCHEMAS) of {kinds}: their fields were not checked")


@needs_kubectl
def test_the_builds_hold_what_the_checks_are_about() -> None:
    kinds = {thing["kind"] for folders in BUILDS for thing in building.build(*folders).objects}
    assert {"Namespace", "ConfigMap", "Deployment", "Service", "InferenceService", "ServingRuntime"} <= kinds


@needs_kubectl
def test_the_steps_of_a_training_run_have_the_image_of_the_job_that_starts_it() -> None:
    production = building.build(ROOT / "manifests" / "overlays" / "production")
    pod = next(pod for pod in production.pods if pod.owner == "CronJob fraud-retraining")
    train = next(container for container in pod.containers if not container.init)
    assert "@sha256:" in train.spec["image"]
    assert train.env["FRAUD_PIPELINES_IMAGE"]["value"] == train.spec["image"]


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
