"""Writes InferenceServices through the Kubernetes API: the same calls for a cluster and for the local KServe."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml
from kubernetes.client import ApiException

from pipelines.errors import StepError

GROUP, VERSION, PLURAL = "serving.kserve.io", "v1beta1", "inferenceservices"
DETECTOR, GNN, DRIFT = "fraud-detector", "fraud-gnn", "fraud-drift"
NAMESPACE = "fraud"


def manifest(manifests: Path, name: str) -> dict[str, Any]:
    """Reads the InferenceService `name` from the kustomize base.

    Raises:
        StepError: the file is not there.
    """
    path = manifests / "inference_services" / f"{name.replace('-', '_')}.yaml"
    try:
        body: dict[str, Any] = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        raise StepError(f"no manifest {path}: the installation lacks its manifests") from None
    return body


def apply(api: Any, body: dict[str, Any]) -> None:
    """Creates the InferenceService, or replaces the one that is there: a canary of before ends with it.

    Args:
        api: `kubernetes.client.CustomObjectsApi`.
        body: the InferenceService.
    """
    name = body["metadata"]["name"]
    try:
        api.create_namespaced_custom_object(GROUP, VERSION, NAMESPACE, PLURAL, body)
    except ApiException as error:
        if error.status != 409:
            raise
        # A merge patch removes a field only when it names it.
        patch(
            api,
            name,
            {"spec": {**body["spec"], "predictor": {"canaryTrafficPercent": None, **body["spec"]["predictor"]}}},
        )


def patch(api: Any, name: str, change: dict[str, Any]) -> dict[str, Any]:
    """Merge-patches the InferenceService `name` and returns it."""
    patched: dict[str, Any] = api.patch_namespaced_custom_object(GROUP, VERSION, NAMESPACE, PLURAL, name, change)
    return patched


def get(api: Any, name: str) -> dict[str, Any]:
    """The InferenceService `name` with its status."""
    found: dict[str, Any] = api.get_namespaced_custom_object(GROUP, VERSION, NAMESPACE, PLURAL, name)
    return found


def with_model(body: dict[str, Any], storage_uri: str) -> dict[str, Any]:
    """The InferenceService with its predictor serving the bundle at `storage_uri`."""
    body["spec"]["predictor"]["model"]["storageUri"] = storage_uri
    return body


def with_transformer_env(body: dict[str, Any], values: Mapping[str, str]) -> dict[str, Any]:
    """The InferenceService with these environment variables set in its transformer."""
    container = body["spec"]["transformer"]["containers"][0]
    others = [item for item in container.get("env", []) if item["name"] not in values]
    container["env"] = others + [{"name": name, "value": value} for name, value in values.items()]
    return body


def deploy_detector(api: Any, manifests: Path, lightgbm_uri: str, fusion_uri: str) -> None:
    """Serves one LightGBM version and its fusion bundle, with all traffic."""
    body = with_model(manifest(manifests, DETECTOR), lightgbm_uri)
    apply(api, with_transformer_env(body, {"FRAUD_TRANSFORMER_FUSION_URI": fusion_uri}))


def start_canary(api: Any, lightgbm_uri: str, fusion_uri: str, percent: int) -> None:
    """Sends `percent` of the detector's predictor traffic to another LightGBM version.

    The fusion bundle must know both versions: it serves them side by side.
    """
    current = get(api, DETECTOR)
    transformer = with_transformer_env(current, {"FRAUD_TRANSFORMER_FUSION_URI": fusion_uri})["spec"]["transformer"]
    change = {"model": {"storageUri": lightgbm_uri}, "canaryTrafficPercent": percent}
    patch(api, DETECTOR, {"spec": {"predictor": change, "transformer": {"containers": transformer["containers"]}}})


def check_fusion(fusion: Path, pairs: Iterable[tuple[str, str]]) -> None:
    """Proves that a fusion bundle can combine every pair that may answer.

    Args:
        fusion: the bundle's folder.
        pairs: content ids of LightGBM and GNN versions.

    Raises:
        StepError: a pair is not in its table; events that meet it would all be reviewed.
    """
    known = {(row["lightgbm"], row["gnn"]) for row in json.loads((fusion / "fusion.json").read_text())["pairs"]}
    for lightgbm, gnn in pairs:
        if (lightgbm, gnn) not in known:
            raise StepError(
                f"fusion bundle {fusion.name} does not know LightGBM {lightgbm} with GNN {gnn}: train the challenger "
                "against this champion with `fraud train --alias challenger`"
            )
