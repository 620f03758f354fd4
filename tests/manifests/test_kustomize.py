"""The manifests build and every object in them is valid; each check is shown to fail on a broken manifest.

A check raises AssertionError naming the object.
"""

import copy
import json
from pathlib import Path
from typing import Any

import kserve
import kubernetes.client
import pytest
import yaml

from simulators.local_kserve.plan import Image, plan, process, read_config_maps
from simulators.local_kserve.volumes import mounted
from tests.manifest_checks import Object, build, check_core, check_crd, is_core, name

ROOT = Path(__file__).parents[2]
OVERLAY = ROOT / "manifests" / "overlays" / "knative"
BASE = ROOT / "manifests" / "base"
SDK_KINDS = {"InferenceService": "V1beta1InferenceService", "ServingRuntime": "V1alpha1ServingRuntime"}


def check_sdk(thing: Object, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through KServe's own models and back: a field that they do not know, or a wrong type, gets lost."""
    for kind in dir(kubernetes.client):
        # Its models refer to Kubernetes' by bare name but its client looks among its own only.
        if kind.startswith("V") and not hasattr(kserve.models, kind):
            monkeypatch.setattr(kserve.models, kind, getattr(kubernetes.client, kind), raising=False)

    class Response:
        data = json.dumps(thing)

    client = kserve.ApiClient()
    try:
        model = client.deserialize(Response, SDK_KINDS[thing["kind"]])
    except (ValueError, kserve.ApiException) as error:
        raise AssertionError(f"{name(thing)}: {error}") from error
    back = client.sanitize_for_serialization(model)
    expected = copy.deepcopy(thing)
    if thing["kind"] == "InferenceService" and "model" in thing["spec"]["predictor"]:
        expected["spec"]["predictor"]["model"].setdefault("name", "")  # the SDK's default
    assert back == expected, f"{name(thing)}: the KServe SDK loses or changes fields"


@pytest.fixture(scope="module")
def objects() -> list[Object]:
    return build(OVERLAY)


def custom() -> list[Object]:
    """The custom resources of base, read without kubectl."""
    files = [*BASE.glob("inference_services/*.yaml"), *BASE.glob("serving_runtimes/*.yaml")]
    return [thing for path in sorted(files) for thing in yaml.safe_load_all(path.read_text())]


def container(thing: Object) -> Object:
    spec = thing["spec"]
    found: Object = spec.get("transformer", spec)["containers"][0]
    return found


def test_every_core_object_is_valid(objects: list[Object]) -> None:
    core = [thing for thing in objects if is_core(thing)]
    assert {"Namespace", "ConfigMap", "Deployment", "Service"} <= {thing["kind"] for thing in core}
    for thing in core:
        check_core(thing)


def test_every_custom_object_of_the_overlay_is_known_to_kserve(
    objects: list[Object], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = [thing for thing in objects if not is_core(thing)]
    assert sorted(map(name, found)) == sorted(map(name, custom()))
    for thing in found:
        check_sdk(thing, monkeypatch)


def test_every_object_lies_in_the_namespace(objects: list[Object]) -> None:
    assert {t["metadata"].get("namespace") for t in objects if t["kind"] != "Namespace"} == {"fraud"}


@pytest.mark.parametrize("thing", custom(), ids=name)
def test_custom_object_fits_its_definition(thing: Object) -> None:
    check_crd(thing)


@pytest.mark.parametrize("thing", custom(), ids=name)
def test_custom_object_survives_the_kserve_sdk(thing: Object, monkeypatch: pytest.MonkeyPatch) -> None:
    check_sdk(thing, monkeypatch)


def test_policy_is_packed_into_a_config_map_with_a_stable_name(objects: list[Object]) -> None:
    data = next(thing for thing in objects if name(thing) == "ConfigMap fraud-policy")["data"]
    assert data == {name: (BASE / "policy" / name).read_text() for name in ("rules.yaml", "threshold_settings.yaml")}


def test_transformer_latency_budget_is_the_policys() -> None:
    policy = yaml.safe_load((BASE / "policy" / "threshold_settings.yaml").read_text())
    detector = next(t for t in custom() if name(t) == "InferenceService fraud-detector")
    env = {e["name"]: e["value"] for e in container(detector)["env"]}
    assert env["FRAUD_TRANSFORMER_LATENCY_BUDGET_MS"] == str(policy["latency_budget_ms"])


def test_the_transformer_s_rules_are_the_policys_and_mounted_so_that_a_change_reaches_it() -> None:
    spec = next(t for t in custom() if name(t) == "InferenceService fraud-detector")["spec"]["transformer"]
    env = {e["name"]: e["value"] for e in spec["containers"][0]["env"]}
    folder, _, file = env["FRAUD_TRANSFORMER_RULES_FILE"].rpartition("/")
    (mount,) = [m for m in spec["containers"][0]["volumeMounts"] if m["mountPath"] == folder]
    (volume,) = [v for v in spec["volumes"] if v["name"] == mount["name"]]
    assert "subPath" not in mount
    assert volume["configMap"] == {"name": "fraud-policy"}
    assert file == "rules.yaml"


def test_every_model_names_a_runtime_that_supports_it() -> None:
    runtimes = {t["metadata"]["name"]: t["spec"] for t in custom() if t["kind"] == "ServingRuntime"}
    models = [t["spec"]["predictor"]["model"] for t in custom() if t["kind"] == "InferenceService"]
    assert len(models) == 3
    for model in models:
        formats = [f["name"] for f in runtimes[model["runtime"]]["supportedModelFormats"]]
        assert model["modelFormat"]["name"] in formats


def test_every_service_is_in_knative_mode_so_that_canaries_split() -> None:
    for thing in custom():
        if thing["kind"] == "InferenceService":
            assert thing["metadata"]["annotations"]["serving.kserve.io/deploymentMode"] == "Knative"


@pytest.mark.parametrize("thing", [t for t in custom() if "containers" in str(t)], ids=name)
def test_containers_run_unprivileged_with_probes_and_limits(thing: Object) -> None:
    found = container(thing)
    security = found["securityContext"]
    assert security["runAsNonRoot"]
    assert security["readOnlyRootFilesystem"]
    assert security["allowPrivilegeEscalation"] is False
    assert security["capabilities"] == {"drop": ["ALL"]}
    assert found["resources"]["limits"].keys() == {"cpu", "memory"}
    assert found["readinessProbe"]["httpGet"]["path"] == "/v2/health/ready"
    assert found["livenessProbe"]["httpGet"]["path"] == "/v2/health/live"


@pytest.mark.parametrize("thing", [t for t in custom() if "containers" in str(t)], ids=name)
def test_command_names_a_module_of_this_repository(thing: Object) -> None:
    python, flag, module = container(thing)["command"]
    assert (python, flag) == ("python", "-m")
    path = ROOT / module.replace(".", "/")
    assert (path / "__main__.py").exists() or path.with_suffix(".py").exists(), module


def broken(kind: str, change: Any) -> Object:
    thing = copy.deepcopy(next(t for t in custom() if t["kind"] == kind))
    change(thing)
    return thing


@pytest.mark.parametrize(
    "thing",
    [
        broken("ServingRuntime", lambda t: container(t).update(comand=["python"])),
        broken("InferenceService", lambda t: t["spec"]["predictor"].update(minReplicaz=1)),
        broken("InferenceService", lambda t: t["spec"]["predictor"].update(minReplicas="one")),
    ],
    ids=["unknown container field", "unknown component field", "wrong type"],
)
def test_broken_custom_object_is_caught(thing: Object, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(AssertionError, match=thing["metadata"]["name"]):
        check_sdk(thing, monkeypatch)
    with pytest.raises(AssertionError, match=thing["metadata"]["name"]):
        check_crd(thing)


def test_broken_core_object_is_caught() -> None:
    thing = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "fraud", "lables": {}}}
    with pytest.raises(AssertionError, match="lables"):
        check_core(thing)


def test_broken_kustomization_is_caught(tmp_path: Path) -> None:
    (tmp_path / "kustomization.yaml").write_text("resources: [absent.yaml]\n")
    with pytest.raises(AssertionError, match="absent"):
        build(tmp_path)


def test_a_local_run_is_given_the_same_rules(tmp_path: Path) -> None:
    detector = next(t for t in custom() if name(t) == "InferenceService fraud-detector")
    planned = plan(detector, "transformer", {})
    (mount,) = planned.config_maps
    folder = mounted(planned.config_maps[mount], read_config_maps(BASE), tmp_path)
    image = {"fraud-transformer": Image(python="python")}
    local = process(
        planned, image, revision="r", ports=(1, 2), folders={mount: folder}, resolve=lambda label, grpc: "127.0.0.1:1"
    )
    file = Path(local.env["FRAUD_TRANSFORMER_RULES_FILE"])
    assert file.resolve() == BASE / "policy" / "rules.yaml"
