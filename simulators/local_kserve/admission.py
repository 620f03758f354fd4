"""What is asked of an InferenceService before it is stored: as in Kubernetes, and then that it can run here. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from simulators.local_kserve import schema, webhook
from simulators.local_kserve.errors import ApiError, denied, invalid, unknown_fields
from simulators.local_kserve.qualified_names import metadata_problems

API_VERSION = "serving.kserve.io/v1beta1"
KIND = "InferenceService"
COMPONENTS = ("predictor", "transformer")
# RFC 1123, for any object's name.
_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
# A component's name is a host label: 63, less "-transformer".
_LONGEST_NAME = 51
# Fields that would change what is run, and that nothing here carries out.
_NOT_RUN = ("batcher", "initContainers", "storageUris", "workerSpec")
_NOT_LOGGED = ("batchInterval", "batchSize", "marshallerUrl", "metadataAnnotations", "storage")

Object = dict[str, Any]


def admit(old: Object | None, isvc: Object, namespace: str) -> None:
    """Raise ApiError unless `isvc` may take the place of `old` (None: be created) in `namespace`.

    400 for unknown fields, 422 for a wrong form, 403 where KServe's webhook refuses, and 422 for what is valid but
    cannot run here.
    """
    if not isinstance(isvc, dict) or isvc.get("apiVersion") != API_VERSION or isvc.get("kind") != KIND:
        raise ApiError(400, "BadRequest", f"the object must be {API_VERSION} {KIND}")
    problems = schema.problems(isvc)
    if problems.unknown:
        raise unknown_fields(problems.unknown)
    metadata = isvc.get("metadata") or {}
    name = str(metadata.get("name") or "")
    if problems.invalid:
        raise invalid(name, "; ".join(problems.invalid))
    if not _NAME.fullmatch(name):
        raise invalid(name, f"metadata.name {name!r} must be lower-case letters, digits, '-' and '.'")
    wrong = list(metadata_problems(metadata))
    if wrong:
        raise invalid(name, "; ".join(wrong))
    if metadata.get("namespace", namespace) != namespace:
        raise ApiError(400, "BadRequest", f"metadata.namespace must be {namespace}, as in the request's path")
    if old is not None and name != old["metadata"]["name"]:
        raise ApiError(400, "BadRequest", f"metadata.name must be {old['metadata']['name']}, as in the request's path")
    refusals = webhook.refusals(old, isvc)
    if refusals:
        raise denied(webhook.NAME, refusals)
    obstacles = list(_obstacles(isvc))
    if obstacles:
        raise invalid(name, f"the local KServe cannot run it: {'; '.join(obstacles)}")


def _obstacles(isvc: Object) -> Iterator[str]:
    """Stricter than KServe: in another mode than Knative it would ignore `canaryTrafficPercent` without a word."""
    mode = webhook.mode(isvc)
    if mode != webhook.KNATIVE:
        yield f"annotation {webhook.DEPLOYMENT_MODE} must be {webhook.KNATIVE}, not {mode or 'absent'}"
    name, spec = isvc["metadata"]["name"], isvc["spec"]
    if len(name) > _LONGEST_NAME or "." in name:
        yield f"the name must have no dot and at most {_LONGEST_NAME} letters"
    for kind in sorted(set(spec) - set(COMPONENTS)):
        yield f"spec.{kind} is not run here"
    for kind in COMPONENTS:
        component = spec.get(kind) or {}
        yield from (f"spec.{kind}.{field} is not run here" for field in _NOT_RUN if component.get(field))
        run = len(component.get("containers") or []) + (kind == "predictor" and component.get("model") is not None)
        if run > 1:
            yield f"spec.{kind}: one container is run here, not {run}"
        logger = component.get("logger")
        yield from (f"spec.{kind}.logger.{field} is not run here" for field in _NOT_LOGGED if (logger or {}).get(field))
        if logger is not None and not logger.get("url"):
            yield f"spec.{kind}.logger.url must be set"
    predictor = spec["predictor"]
    for framework in webhook.FRAMEWORKS:
        if framework != "model" and predictor.get(framework) is not None:
            yield f"spec.predictor.{framework} must be written as model, with one of our runtimes"
    model = predictor.get("model")
    for field in ("runtime", "storageUri"):
        if model is not None and not model.get(field):
            yield f"spec.predictor.model.{field} must be set"
