"""InferenceService objects: what is accepted, and how a patch changes one. Pure functions on JSON values."""

from __future__ import annotations

import copy
import re
from typing import Any

from simulators.local_kserve.errors import ApiError, invalid

API_VERSION = "serving.kserve.io/v1beta1"
KIND = "InferenceService"
DEPLOYMENT_MODE = "serving.kserve.io/deploymentMode"
COMPONENTS = ("predictor", "transformer")
# DNS-1035: the name becomes a service's name.
_NAME = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")

Object = dict[str, Any]


def check(isvc: Object, namespace: str) -> None:
    """Raise ApiError (422) unless `isvc` could run here in `namespace`.

    Stricter than KServe in one point: the deployment mode must be Knative, because any other mode ignores
    `canaryTrafficPercent` without a word.
    """
    metadata = isvc.get("metadata") or {}
    name = str(metadata.get("name") or "")
    if isvc.get("apiVersion") != API_VERSION or isvc.get("kind") != KIND:
        raise ApiError(400, "BadRequest", f"the object must be {API_VERSION} {KIND}")
    if not _NAME.fullmatch(name):
        raise invalid(name, "metadata.name must be lower-case letters, digits and '-', starting with a letter")
    if metadata.get("namespace", namespace) != namespace:
        raise ApiError(400, "BadRequest", f"metadata.namespace must be {namespace}, as in the request's path")
    mode = (metadata.get("annotations") or {}).get(DEPLOYMENT_MODE)
    if mode != "Knative":
        raise invalid(name, f"annotation {DEPLOYMENT_MODE} must be Knative, not {mode}")
    spec = isvc.get("spec") or {}
    unknown = sorted(set(spec) - set(COMPONENTS))
    if unknown or not isinstance(spec.get("predictor"), dict):
        raise invalid(name, f"spec must hold predictor and optionally transformer, found {sorted(spec)}")
    for component in COMPONENTS:
        if component in spec:
            _check_component(name, component, spec[component])


def _check_component(name: str, component: str, spec: Object) -> None:
    where = f"spec.{component}"
    percent = spec.get("canaryTrafficPercent")
    if percent is not None and (type(percent) is not int or not 0 <= percent <= 100):
        raise invalid(name, f"{where}.canaryTrafficPercent must be an integer from 0 to 100, not {percent!r}")
    model = spec.get("model") if component == "predictor" else None
    if (model is None) == (not spec.get("containers")):
        raise invalid(name, f"{where} must hold either containers or, for a predictor, model")
    if model is not None:
        for field in ("modelFormat", "runtime", "storageUri"):
            if not model.get(field):
                raise invalid(name, f"{where}.model.{field} is required")
        if model.get("name"):
            raise invalid(name, f"{where}.model.name must not be set: KServe's webhook refuses it")


def merge_patch(target: Any, patch: Any) -> Any:
    """RFC 7396: a null removes, an object merges, anything else replaces."""
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merge_patch(result.get(key), value)
    return result


def json_patch(target: Any, operations: list[Object]) -> Any:
    """RFC 6902 operations add, replace, remove and test; raises ApiError (422) for one that does not apply."""
    result = copy.deepcopy(target)
    for operation in operations:
        try:
            _apply(result, operation)
        except (KeyError, IndexError, ValueError, TypeError) as error:
            raise ApiError(422, "Invalid", f"JSON patch operation {operation} does not apply: {error!r}") from None
    return result


def _apply(document: Any, operation: Object) -> None:
    *parents, last = [part.replace("~1", "/").replace("~0", "~") for part in operation["path"].lstrip("/").split("/")]
    for part in parents:
        document = document[int(part) if isinstance(document, list) else part]
    key: Any = last
    if isinstance(document, list):
        key = len(document) if last == "-" else int(last)
    match operation["op"]:
        case "add" if isinstance(document, list):
            document.insert(key, operation["value"])
        case "add":
            document[key] = operation["value"]
        case "replace":
            document[key]  # a missing field is an error
            document[key] = operation["value"]
        case "remove":
            del document[key]
        case "test":
            if document[key] != operation["value"]:
                raise ValueError(f"found {document[key]!r}")
        case other:
            raise ValueError(f"unsupported operation {other!r}")
