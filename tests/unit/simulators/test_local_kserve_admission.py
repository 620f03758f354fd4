"""What the local KServe refuses before it stores an object, and with which answer."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import kserve
import kubernetes.client
import pytest
import yaml

from simulators.local_kserve.admission import admit
from simulators.local_kserve.errors import ApiError
from simulators.local_kserve.patches import merge_patch
from simulators.local_kserve.schema import KSERVE, problems
from simulators.local_kserve.webhook import refusals

ROOT = Path(__file__).parents[3]
MODE = "serving.kserve.io/deploymentMode"
# Ours on the left; the rest are the SDK's with "Spec" after the name, or as they are.
SDK = {
    "Framework": "V1beta1LightGBMSpec",
    "InferenceService": "V1beta1InferenceService",
    "InferenceServiceSpec": "V1beta1InferenceServiceSpec",
    "ArtExplainer": "V1beta1ARTExplainerSpec",
}
# Newer than the Kubernetes client here; they are refused.
NEWER = {"hostnameOverride", "schedulingGroup", "restartPolicyRules"}


def isvc(**predictor: Any) -> dict[str, Any]:
    model = {"modelFormat": {"name": "fake"}, "runtime": "fake", "storageUri": "pvc://bundles/fake/1"}
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": "echo", "namespace": "fraud", "annotations": {MODE: "Knative"}},
        "spec": {"predictor": predictor or {"model": model}},
    }


def changed(**predictor: Any) -> dict[str, Any]:
    found: dict[str, Any] = merge_patch(isvc(), {"spec": {"predictor": predictor}})
    return found


def annotated(**annotations: str | None) -> dict[str, Any]:
    names = {"mode": MODE, "autoscaler": "serving.kserve.io/autoscalerClass", "kpa": "autoscaling.knative.dev/class"}
    values = {names[name]: value for name, value in annotations.items()}
    found: dict[str, Any] = merge_patch(isvc(), {"metadata": {"annotations": values}})
    return found


def container(name: str = "kserve-container", **env: str) -> dict[str, Any]:
    return {"name": name, "image": "x", "env": [{"name": key, "value": value} for key, value in env.items()]}


@pytest.mark.parametrize(
    "path", sorted((ROOT / "manifests/base/inference_services").glob("*.yaml")), ids=lambda p: p.stem
)
def test_our_manifests_are_admitted(path: Path) -> None:
    admit(None, yaml.safe_load(path.read_text()), "fraud")


@pytest.mark.parametrize("kind", sorted(KSERVE))
def test_the_fields_are_those_of_kserves_sdk(kind: str) -> None:
    names = [SDK.get(kind, f"V1beta1{kind}"), f"V1beta1{kind}Spec"]
    model = next(found for name in names if (found := getattr(kserve.models, name, None)))
    assert set(model.attribute_map.values()) - NEWER == KSERVE[kind].keys()
    for name, attribute in model.attribute_map.items():
        if attribute not in NEWER and KSERVE[kind][attribute] in {"str", "int", "bool", "dict(str, str)"}:
            assert model.openapi_types[name].replace("ResourceQuantity", "str") == KSERVE[kind][attribute], attribute


@pytest.mark.parametrize(
    "kind", sorted({t.removeprefix("list[").removesuffix("]") for f in KSERVE.values() for t in f.values()})
)
def test_every_type_that_a_field_names_is_there(kind: str) -> None:
    assert (
        kind in KSERVE
        or kind.partition("(")[0] in {"str", "int", "bool", "object", "dict"}
        or hasattr(kubernetes.client, kind)
    )


@pytest.mark.parametrize(
    ("predictor", "unknown"),
    [
        ({"minReplicaz": 1}, "spec.predictor.minReplicaz"),
        ({"model": {"storageURI": "s3://x"}}, "spec.predictor.model.storageURI"),
        ({"model": {"env": [{"name": "A", "valu": "1"}]}}, "spec.predictor.model.env[0].valu"),
        (
            {"containers": [{"name": "a", "readinessProbe": {"httpGet": {"prt": 1}}}]},
            "containers[0].readinessProbe.httpGet.prt",
        ),
        ({"logger": {"sink": "x"}}, "spec.predictor.logger.sink"),
    ],
)
def test_an_unknown_field_is_named_at_any_depth(predictor: dict[str, Any], unknown: str) -> None:
    with pytest.raises(ApiError, match="strict decoding error") as refusal:
        admit(None, changed(**predictor), "fraud")
    assert unknown in str(refusal.value)
    assert refusal.value.code == 400


@pytest.mark.parametrize(
    ("predictor", "words"),
    [
        ({"minReplicas": "one"}, "spec.predictor.minReplicas must be an integer"),
        ({"minReplicas": True}, "must be an integer"),
        ({"model": {"env": {"A": "1"}}}, "spec.predictor.model.env must be a list"),
        ({"model": {"env": [{"value": "1"}]}}, "`name`"),
        ({"model": {"modelFormat": None}}, "modelFormat must be set"),
        ({"model": {"args": [1]}}, r"args\[0\] must be text"),
    ],
)
def test_a_wrong_type_or_a_missing_field_is_invalid(predictor: dict[str, Any], words: str) -> None:
    with pytest.raises(ApiError, match=words) as refusal:
        admit(None, changed(**predictor), "fraud")
    assert (refusal.value.code, refusal.value.reason) == (422, "Invalid")


def test_a_quantity_may_be_a_number() -> None:
    assert problems(changed(model={"resources": {"limits": {"cpu": 1, "memory": "1Gi"}}})).invalid == []


@pytest.mark.parametrize(
    ("metadata", "words"),
    [
        ({"labels": {"app": "a b"}}, "the value 'a b' of 'app'"),
        ({"labels": {"app": "a" * 64}}, "at most 63"),
        ({"labels": {"app": "-a"}}, "the value '-a'"),
        ({"labels": {"app": "a\n"}}, "the value"),
        ({"labels": {"an app": "a"}}, "'an app' must be"),
        ({"labels": {"": "a"}}, "'' must be"),
        ({"labels": {"Team.example/app": "a"}}, "'Team.example/app' must be"),
        ({"labels": {"/app": "a"}}, "'/app' must be"),
        ({"labels": {"a/b/c": "a"}}, "'a/b/c' must be"),
        ({"annotations": {"a b": "a"}}, "metadata.annotations: 'a b' must be"),
    ],
)
def test_a_label_that_kubernetes_would_not_take_is_invalid(metadata: dict[str, Any], words: str) -> None:
    with pytest.raises(ApiError, match=words) as refusal:
        admit(None, merge_patch(isvc(), {"metadata": metadata}), "fraud")
    assert (refusal.value.code, refusal.value.reason) == (422, "Invalid")


@pytest.mark.parametrize(
    "metadata",
    [
        {"labels": {"app.kubernetes.io/name": "fraud_A.1", "empty": "", "a" * 63: "a" * 63}},
        {"annotations": {"Team.example/Notes": "anything at all, with spaces\n"}},
    ],
)
def test_labels_and_annotations_of_a_right_form_are_admitted(metadata: dict[str, Any]) -> None:
    admit(None, merge_patch(isvc(), {"metadata": metadata}), "fraud")


WEBHOOK = [
    (changed(minReplicas=3, maxReplicas=2), "minReplicas 3 must not be above maxReplicas 2"),
    (changed(minReplicas=-1), "minReplicas must not be negative"),
    (changed(maxReplicas=-1), "maxReplicas must not be negative"),
    (changed(maxReplicas=0, minReplicas=3), None),
    (changed(containerConcurrency=-1), "containerConcurrency"),
    (changed(canaryTrafficPercent=101), "from 0 to 100"),
    (changed(canaryTrafficPercent=0), None),
    (changed(model={"name": "x"}), "model.name must not be set"),
    (changed(model={"name": ""}), None),
    (changed(model={"storageUri": "ftp://a/b"}), "must be a path or begin with"),
    (changed(model={"storageUri": "s3://a/b"}), None),
    (changed(model={"storageUri": "/a/b"}), None),
    (changed(lightgbm={"storageUri": "s3://a"}), "exactly one of"),
    (changed(model=None), "found none"),
    (changed(containers=[container()]), "found model, containers"),
    (changed(containers=[container("helper")]), None),
    (isvc(containers=[container("helper")]), None),
    (isvc(containers=[container(PROTOCOL="v3")]), "PROTOCOL must be one of"),
    (isvc(containers=[container(PYTHONPATH="/x")]), "PYTHONPATH must not be set"),
    (changed(model={"env": [{"name": "PYTHONPATH", "value": "/x"}]}), "PYTHONPATH must not be set"),
    (
        isvc(containers=[container(), container("transformer-container", STORAGE_URI="s3://x")]),
        "transformer's container",
    ),
    (changed(logger={"mode": "some", "url": "http://x"}), "logger.mode must be"),
    (changed(logger={"mode": "all", "storage": {"path": "x"}}), "logger.storage"),
    (changed(logger={"mode": "all", "url": "http://x"}), None),
    (changed(storageUris=[{"uri": "s3://a", "mountPath": "/mnt/a"}]), "not have both"),
    (isvc(containers=[container()], storageUris=[{"uri": "s3://a", "mountPath": "/mnt/../a"}]), "without '..'"),
    (changed(scaleMetric="cpu"), "scaleMetric must be concurrency or rps"),
    (changed(scaleMetric="rps", scaleTarget=0), "scaleTarget must be at least 1"),
    (changed(deploymentStrategy={"type": "Recreate"}), "Standard mode only"),
    (annotated(autoscaler="keda"), None),
    (annotated(autoscaler="kpa"), "autoscaler class must be one of"),
    (
        merge_patch(annotated(kpa="hpa.autoscaling.knative.dev"), {"spec": {"predictor": {"scaleMetric": "rps"}}}),
        "cpu or memory",
    ),
    (merge_patch(isvc(), {"metadata": {"name": "1echo"}}), "starting with a letter"),
    (merge_patch(isvc(), {"spec": {"transformer": {"minReplicas": 0}}}), "spec.transformer must hold exactly one"),
    (
        merge_patch(isvc(), {"spec": {"canary": [{"predictor": {"name": "b"}, "trafficPercent": 5}]}}),
        "needs deployment mode",
    ),
    (
        merge_patch(annotated(mode="Standard"), {"spec": {"canary": [{"predictor": {}, "trafficPercent": 105}]}}),
        "must each be from 0 to 100",
    ),
]


@pytest.mark.parametrize(("thing", "words"), WEBHOOK, ids=lambda value: value if isinstance(value, str) else None)
def test_the_webhooks_rules(thing: dict[str, Any], words: str | None) -> None:
    assert problems(thing).invalid == []
    found = refusals(None, thing)
    if words is None:
        assert found == []
        return
    assert any(words in refusal for refusal in found), found
    with pytest.raises(ApiError, match="denied the request") as refusal:
        admit(None, thing, "fraud")
    assert (refusal.value.code, refusal.value.reason) == (403, "Forbidden")


def test_the_deployment_mode_of_a_running_service_cannot_change() -> None:
    running = {**isvc(), "status": {"deploymentMode": "Knative"}}
    assert "from Knative to Standard" in refusals(running, annotated(mode="Standard"))[0]
    assert refusals(running, annotated(mode="Serverless")) == []
    assert refusals(running, annotated(mode=None)) == []
    assert refusals(isvc(), annotated(mode="Standard")) == []


def test_a_predictor_is_renamed_only_together_with_its_model() -> None:
    assert "only together with the model" in refusals(isvc(), changed(name="b"))[0]
    assert refusals(isvc(), changed(name="b", model={"storageUri": "pvc://bundles/fake/2"})) == []


@pytest.mark.parametrize(
    ("thing", "words"),
    [
        (annotated(mode="Standard"), "must be Knative, not Standard"),
        (annotated(mode=None), "not absent"),
        (merge_patch(isvc(), {"metadata": {"name": "a" * 52}}), "at most 51"),
        (merge_patch(isvc(), {"spec": {"explainer": {"containers": [container()]}}}), "spec.explainer is not run here"),
        (changed(model=None, lightgbm={"storageUri": "s3://a"}), "must be written as model"),
        (changed(model={"runtime": None}), "model.runtime must be set"),
        (isvc(containers=[container(), container("helper")]), "one container is run here, not 2"),
        (changed(logger={"mode": "all"}), "logger.url must be set"),
        (changed(logger={"mode": "all", "url": "http://x", "batchSize": 5}), "logger.batchSize is not run here"),
        (changed(batcher={"maxBatchSize": 4}), "batcher is not run here"),
    ],
)
def test_what_is_valid_but_cannot_run_here_is_refused_with_the_reason(thing: dict[str, Any], words: str) -> None:
    assert refusals(None, thing) == []
    with pytest.raises(ApiError, match=f"the local KServe cannot run it: .*{words}") as refusal:
        admit(None, thing, "fraud")
    assert refusal.value.code == 422


def test_a_change_keeps_name_and_namespace() -> None:
    other = copy.deepcopy(isvc())
    other["metadata"]["name"] = "other"
    with pytest.raises(ApiError, match=r"metadata\.name must be echo"):
        admit(isvc(), other, "fraud")
    with pytest.raises(ApiError, match=r"metadata\.namespace must be shop"):
        admit(None, isvc(), "shop")
