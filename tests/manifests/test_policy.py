"""The decision policy reaches the transformer: in a cluster by a ConfigMap, in a local run as the same file."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from simulators.local_kserve.plan import Image, plan, process, read_config_maps
from simulators.local_kserve.volumes import mounted
from tests.manifest_checks import building
from tests.manifest_checks.finding import Object

BASE = building.MANIFESTS / "base"


@pytest.fixture
def detector() -> Object:
    found: Object = yaml.safe_load((BASE / "inference_services" / "fraud_detector.yaml").read_text())
    return found


def environment(detector: Object) -> dict[str, str]:
    (container,) = detector["spec"]["transformer"]["containers"]
    return {entry["name"]: entry.get("value", "") for entry in container["env"]}


@pytest.mark.skipif(bool(building.without_kubectl()), reason=building.without_kubectl())
def test_policy_is_packed_into_a_config_map_with_a_stable_name() -> None:
    built = building.build(building.MANIFESTS / "overlays" / "knative").find("ConfigMap", "fraud-policy", "fraud")
    assert built is not None
    files = ("rules.yaml", "threshold_settings.yaml")
    assert built["data"] == {name: (BASE / "policy" / name).read_text() for name in files}


def test_transformer_latency_budget_is_the_policys(detector: Object) -> None:
    policy = yaml.safe_load((BASE / "policy" / "threshold_settings.yaml").read_text())
    assert environment(detector)["FRAUD_TRANSFORMER_LATENCY_BUDGET_MS"] == str(policy["latency_budget_ms"])


def test_rules_are_mounted_so_that_a_change_reaches_the_transformer(detector: Object) -> None:
    spec = detector["spec"]["transformer"]
    folder, _, file = environment(detector)["FRAUD_TRANSFORMER_RULES_FILE"].rpartition("/")
    (mount,) = [m for m in spec["containers"][0]["volumeMounts"] if m["mountPath"] == folder]
    (volume,) = [v for v in spec["volumes"] if v["name"] == mount["name"]]
    assert "subPath" not in mount
    assert volume["configMap"] == {"name": "fraud-policy"}
    assert file == "rules.yaml"


def test_a_local_run_is_given_the_same_rules(detector: Object, tmp_path: Path) -> None:
    planned = plan(detector, "transformer", {})
    (mount,) = planned.config_maps
    folder = mounted(planned.config_maps[mount], read_config_maps(BASE), tmp_path)
    image = {"fraud-transformer": Image(python="python")}
    local = process(
        planned, image, revision="r", ports=(1, 2), folders={mount: folder}, resolve=lambda label, grpc: "127.0.0.1:1"
    )
    assert Path(local.env["FRAUD_TRANSFORMER_RULES_FILE"]).resolve() == BASE / "policy" / "rules.yaml"
