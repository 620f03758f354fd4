"""Deploys InferenceServices from the kustomize base, to a cluster and to the local KServe alike."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from kubernetes.client import ApiException

from components.canary import FUSION_URI
from components.kserve_api import DETECTOR, change, create, patch, read, with_transformer_env
from components.rollout import READY_S
from pipelines.errors import StepError


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

    Raises:
        ComponentError: a canary is under way, and what replaces it does not come up; the champion serves.
    """
    name = body["metadata"]["name"]
    try:
        create(api, body)
    except ApiException as error:
        if error.status != 409:
            raise
        predictor = body["spec"]["predictor"]
        if read(api, name)["spec"]["predictor"].get("canaryTrafficPercent") is not None:
            # Without a share the newest revision that is ready gets everything, and that is the canary for now.
            change(api, name, {**body["spec"], "predictor": {**predictor, "canaryTrafficPercent": 0}}, READY_S)
        # A merge patch removes a field only when it names it.
        patch(api, name, {"spec": {**body["spec"], "predictor": {"canaryTrafficPercent": None, **predictor}}})


def with_model(body: dict[str, Any], storage_uri: str) -> dict[str, Any]:
    """The InferenceService with its predictor serving the bundle at `storage_uri`."""
    body["spec"]["predictor"]["model"]["storageUri"] = storage_uri
    return body


def deploy_detector(api: Any, manifests: Path, lightgbm_uri: str, fusion_uri: str) -> None:
    """Serves one LightGBM version and its fusion bundle, with all traffic."""
    body = with_model(manifest(manifests, DETECTOR), lightgbm_uri)
    body["spec"]["transformer"]["containers"] = with_transformer_env(body, FUSION_URI, fusion_uri)
    apply(api, body)
