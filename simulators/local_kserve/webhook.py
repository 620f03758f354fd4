"""What KServe's validating webhook refuses in an InferenceService. Pure functions on JSON values.

The rules follow KServe 0.20, pkg/apis/serving/v1beta1/inference_service_validation.go and component.go. Two more are
not the webhook's, but stop the same objects a moment later: which addresses the controller can fetch, and that Knative
takes a share of 0 to 100 percent. Left out are worker specs (several nodes), confidential models and KEDA's metrics.

The objects have the form that the CRD asks for: that is checked before a webhook is called.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from simulators.local_kserve.webhook_scaling import scaling_refusals

Object = dict[str, Any]

NAME = "inferenceservice.kserve-webhook-server.validator"
DEPLOYMENT_MODE = "serving.kserve.io/deploymentMode"
KNATIVE, STANDARD = "Knative", "Standard"
# What the mutating webhook makes of the names that the modes had before.
_FORMER_MODES = {"Serverless": KNATIVE, "RawDeployment": STANDARD}
COMPONENTS = ("predictor", "transformer", "explainer")
FRAMEWORKS = (
    *("sklearn", "xgboost", "tensorflow", "pytorch", "triton", "onnx", "huggingface"),
    *("pmml", "lightgbm", "paddle", "model"),
)
CONTAINER = "kserve-container"
SCHEMES = (
    *("gs", "s3", "pvc", "file", "https", "http", "hdfs", "webhdfs"),
    *("oci", "oci+native", "oci+fetch", "hf"),
)
_NAME = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_AUTOSCALERS = ("hpa", "external", "keda", "none")
_PROTOCOLS = ("v1", "v2")
# Python would load code from wherever it points.
_BLOCKED_ENV = ("PYTHONPATH",)
_STORAGE_ENV = "STORAGE_URI"


def refusals(old: Object | None, new: Object) -> list[str]:
    """Why the webhook would not let `new` take the place of `old` (None: be created); nothing when it would."""
    annotations = new["metadata"].get("annotations") or {}
    spec = new["spec"]
    predictor = spec["predictor"]
    found = [*(_of_change(old, new) if old is not None else ()), *_of_metadata(new)]
    found += [*_of_environment(spec), *_of_model(predictor)]
    for kind in COMPONENTS:
        if spec.get(kind) is not None:
            found += _of_component(kind, spec[kind])
            found += [f"spec.{kind}: {why}" for why in scaling_refusals(annotations, spec[kind])]
    return [*found, *_of_canaries(spec, mode(new))]


def mode(isvc: Object) -> str:
    """The deployment mode that the annotation asks for, by the name that it has today; empty without annotation."""
    asked = str((isvc["metadata"].get("annotations") or {}).get(DEPLOYMENT_MODE, ""))
    return _FORMER_MODES.get(asked, asked)


def implementations(kind: str, spec: Object) -> list[str]:
    """The fields of a component that each say how it is run; a valid one has exactly one."""
    names = {"predictor": FRAMEWORKS, "explainer": ("art",), "transformer": ()}[kind]
    found = [name for name in names if spec.get(name) is not None]
    containers = spec.get("containers") or []
    if kind != "predictor":
        return [*found, "containers"] if containers else found
    found += ["containers" for container in containers if container.get("name") == CONTAINER]
    return found or (["containers"] if containers else [])


def model_of(predictor: Object) -> Object | None:
    """A predictor's model, whether as `model` or under its framework's own name; None when containers run it."""
    return next((predictor[name] for name in FRAMEWORKS if predictor.get(name) is not None), None)


def _of_change(old: Object, new: Object) -> Iterator[str]:
    before = (old.get("status") or {}).get("deploymentMode", "")
    before = _FORMER_MODES.get(before, before)
    asked = mode(new)
    if before and asked and asked != before:
        yield f"the deployment mode cannot be changed from {before} to {asked}"
    ours, theirs = new["spec"]["predictor"], old["spec"]["predictor"]
    renamed = ours.get("name", "") != theirs.get("name", "")
    if renamed and (model_of(ours) or {}).get("storageUri") == (model_of(theirs) or {}).get("storageUri"):
        yield "spec.predictor.name may change only together with the model, for example its storageUri"


def _of_metadata(isvc: Object) -> Iterator[str]:
    name = str(isvc["metadata"].get("name", ""))
    if not _NAME.fullmatch(name):
        yield f"the name {name!r} must be lower-case letters, digits and '-', starting with a letter"
    autoscaler = (isvc["metadata"].get("annotations") or {}).get("serving.kserve.io/autoscalerClass")
    if autoscaler is not None and autoscaler not in _AUTOSCALERS:
        yield f"the autoscaler class must be one of {', '.join(_AUTOSCALERS)}, not {autoscaler}"


def _of_environment(spec: Object) -> Iterator[str]:
    for kind in COMPONENTS:
        component = spec.get(kind) or {}
        model = (model_of(component) if kind == "predictor" else component.get("art")) or {}
        containers = [*(component.get("containers") or []), *(component.get("initContainers") or []), model]
        for container in containers:
            for variable in container.get("env") or []:
                if variable.get("name") in _BLOCKED_ENV:
                    yield f"spec.{kind}: {variable['name']} must not be set, for safety"
    for container in spec["predictor"].get("containers") or []:
        if container.get("name") == "transformer-container" and _env(container, _STORAGE_ENV) is not None:
            yield f"spec.predictor: {_STORAGE_ENV} must not be set in the transformer's container"


def _of_model(predictor: Object) -> Iterator[str]:
    for name in FRAMEWORKS:
        if (predictor.get(name) or {}).get("name"):
            yield f"spec.predictor.{name}.name must not be set"
    uri = (model_of(predictor) or {}).get("storageUri")
    scheme, separator, _ = str(uri).partition("://")
    if uri is not None and separator and scheme not in SCHEMES:
        yield f"storageUri {uri!r} must be a path or begin with one of {', '.join(f'{s}://' for s in SCHEMES)}"


def _of_component(kind: str, spec: Object) -> Iterator[str]:
    where = f"spec.{kind}"
    found = implementations(kind, spec)
    if len(found) != 1:
        choices = ", ".join([*FRAMEWORKS, "containers"] if kind == "predictor" else ["containers"])
        yield f"{where} must hold exactly one of {choices}, found {', '.join(found) or 'none'}"
    if found == ["containers"] and kind == "predictor":
        protocol = _env(spec["containers"][0], "PROTOCOL")
        if protocol is not None and protocol not in _PROTOCOLS:
            yield f"{where}: PROTOCOL must be one of {', '.join(_PROTOCOLS)}, not {protocol}"
    yield from _of_storage_uris(where, spec)
    concurrency = spec.get("containerConcurrency")
    if concurrency is not None and concurrency < 0:
        yield f"{where}.containerConcurrency must not be negative, found {concurrency}"
    yield from _of_replicas(where, spec)
    yield from _of_logger(where, spec.get("logger"))
    share = spec.get("canaryTrafficPercent")
    if share is not None and not 0 <= share <= 100:
        yield f"{where}.canaryTrafficPercent must be from 0 to 100, not {share}"


def _of_replicas(where: str, spec: Object) -> Iterator[str]:
    least, most = spec.get("minReplicas", 1), spec.get("maxReplicas", 0)
    if least < 0:
        yield f"{where}.minReplicas must not be negative, found {least}"
    if most < 0:
        yield f"{where}.maxReplicas must not be negative, found {most}"
    if 0 < most < least:
        yield f"{where}.minReplicas {least} must not be above maxReplicas {most}"


def _of_logger(where: str, logger: Object | None) -> Iterator[str]:
    if logger is None:
        return
    if logger.get("mode") not in {"all", "request", "response"}:
        yield f"{where}.logger.mode must be all, request or response, not {logger.get('mode')!r}"
    storage = logger.get("storage")
    if storage is not None and any(storage.get(name) is None for name in ("path", "parameters", "key")):
        yield f"{where}.logger.storage must have path, parameters and key"


def _of_storage_uris(where: str, spec: Object) -> Iterator[str]:
    listed = spec.get("storageUris")
    if not listed:
        return
    container: Object = next(iter(spec.get("containers") or []), {})
    if (model_of(spec) or {}).get("storageUri") is not None or _env(container, _STORAGE_ENV) is not None:
        yield f"{where} must not have both a storage address and storageUris"
    mounts = [entry.get("mountPath", "/mnt/models") for entry in listed]
    for entry, mount in zip(listed, mounts, strict=True):
        if not entry.get("uri"):
            yield f"{where}.storageUris: an address is empty"
        if not mount.startswith("/") or mount == "/" or ".." in mount:
            yield f"{where}.storageUris: {mount!r} must be an absolute path below / without '..'"
    fetched = [
        mount for entry, mount in zip(listed, mounts, strict=True) if not entry.get("uri", "").startswith("pvc://")
    ]
    if len({mount.strip("/").partition("/")[0] for mount in fetched}) > 1:
        yield f"{where}.storageUris: {', '.join(fetched)} must lie under one folder"


def _of_canaries(spec: Object, deployment_mode: str) -> Iterator[str]:
    """`spec.canary`, which is Standard mode's; in Knative mode a share is `canaryTrafficPercent`."""
    canaries = spec.get("canary") or []
    if not canaries:
        return
    if deployment_mode != STANDARD:
        yield f"spec.canary needs deployment mode {STANDARD}; in {KNATIVE} set spec.predictor.canaryTrafficPercent"
        return
    names = [spec["predictor"].get("name", ""), *(canary["predictor"].get("name", "") for canary in canaries)]
    if "" in names[1:] or len(set(names)) < len(names):
        yield f"each of spec.canary needs a predictor.name of its own, found {names[1:]}"
    for canary in canaries:
        fixed = [f for f in ("maxReplicas", "scaleTarget", "scaleMetric", "autoScaling") if canary["predictor"].get(f)]
        if fixed:
            yield f"spec.canary: the number of replicas is fixed, {', '.join(fixed)} must not be set"
        if canary["predictor"].get("minReplicas", 0) > spec["predictor"].get("minReplicas", 1):
            yield "spec.canary: minReplicas must not be above the predictor's"
    shares = [canary["trafficPercent"] for canary in canaries]
    if not all(0 <= share <= 100 for share in shares) or sum(shares) > 100:
        yield f"spec.canary: the shares {shares} must each be from 0 to 100 and together at most 100"


def _env(container: Object, name: str) -> str | None:
    return next((e.get("value", "") for e in container.get("env") or [] if e.get("name") == name), None)
