"""The form of an InferenceService: which fields there are, of which types. Pure.

Kubernetes' own types come from its Python client; KServe's are written down here, and a test holds them to KServe's
SDK. An API server refuses what does not fit, and in strict mode fields that nobody knows, before it asks a webhook.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from kubernetes import client as kubernetes

_POD = {
    attribute: kubernetes.V1PodSpec.openapi_types[name]
    for name, attribute in kubernetes.V1PodSpec.attribute_map.items()
}
# Newer than the client.
_POD["resources"] = "V1ResourceRequirements"
_CONTAINER = {
    attribute: kubernetes.V1Container.openapi_types[name]
    for name, attribute in kubernetes.V1Container.attribute_map.items()
}
# KServe's ComponentExtensionSpec.
_EXTENSION = {
    "annotations": "dict(str, str)",
    "autoScaling": "AutoScaling",
    "batcher": "Batcher",
    "canaryTrafficPercent": "int",
    "containerConcurrency": "int",
    "deploymentStrategy": "V1DeploymentStrategy",
    "labels": "dict(str, str)",
    "logger": "Logger",
    "maxReplicas": "int",
    "minReplicas": "int",
    "scaleMetric": "str",
    "scaleMetricType": "str",
    "scaleTarget": "int",
    "timeout": "int",
}
_COMPONENT = {**_POD, **_EXTENSION, "storageUris": "list[StorageUri]"}
_STORED = {**_CONTAINER, "runtimeVersion": "str", "storage": "ModelStorage", "storageUri": "str"}
_FRAMEWORK = {**_STORED, "confidential": "Confidential", "protocolVersion": "str"}
_STORAGE = {"key": "str", "parameters": "dict(str, str)", "path": "str"}

# KServe's types, by names of our own: JSON field -> type.
KSERVE: Mapping[str, Mapping[str, str]] = {
    "InferenceService": {
        "apiVersion": "str",
        "kind": "str",
        "metadata": "V1ObjectMeta",
        "spec": "InferenceServiceSpec",
        "status": "object",
    },
    "InferenceServiceSpec": {
        "canary": "list[Canary]",
        "explainer": "Explainer",
        "predictor": "Predictor",
        "tracing": "Tracing",
        "transformer": "Transformer",
    },
    "Predictor": {
        **_COMPONENT,
        **dict.fromkeys(
            (
                *("sklearn", "xgboost", "tensorflow", "pytorch", "triton"),
                *("onnx", "huggingface", "pmml", "lightgbm", "paddle"),
            ),
            "Framework",
        ),
        "model": "Model",
        "name": "str",
        "storageContainerName": "str",
        "workerSpec": "Worker",
    },
    "Transformer": _COMPONENT,
    "Explainer": {**_COMPONENT, "art": "ArtExplainer"},
    "ArtExplainer": {**_STORED, "config": "dict(str, str)", "type": "str"},
    "Framework": _FRAMEWORK,
    "Model": {**_FRAMEWORK, "modelFormat": "ModelFormat", "runtime": "str"},
    "ModelFormat": {"name": "str", "version": "str"},
    "ModelStorage": {**_STORAGE, "schemaPath": "str"},
    "Confidential": {"enabled": "bool", "resourceId": "str"},
    "StorageUri": {"mountPath": "str", "uri": "str"},
    "Worker": {**_POD, "pipelineParallelSize": "int", "tensorParallelSize": "int"},
    "Canary": {"predictor": "Predictor", "trafficPercent": "int"},
    "Tracing": dict.fromkeys(("exporter", "exporterEndpoint", "sampler", "samplerArg"), "str"),
    "Batcher": dict.fromkeys(("maxBatchSize", "maxLatency", "timeout"), "int"),
    "AutoScaling": {"behavior": "V2HorizontalPodAutoscalerBehavior", "metrics": "list[object]"},
    "Logger": {
        "batchInterval": "str",
        "batchSize": "int",
        "marshallerUrl": "str",
        "metadataAnnotations": "list[str]",
        "metadataHeaders": "list[str]",
        "mode": "str",
        "storage": "LoggerStorage",
        "url": "str",
    },
    "LoggerStorage": {**_STORAGE, "serviceAccountName": "str"},
}
_REQUIRED = {
    "InferenceService": ("metadata", "spec"),
    "InferenceServiceSpec": ("predictor",),
    "Model": ("modelFormat",),
    "ModelFormat": ("name",),
    "StorageUri": ("uri",),
    "Canary": ("predictor", "trafficPercent"),
    "Confidential": ("enabled",),
}
# Kubernetes takes 1 as well as "1" here; its client calls all of them text.
_QUANTITIES = frozenset({"limits", "requests", "overhead", "sizeLimit", "divisor"})
_CLIENT = kubernetes.Configuration()
_PYTHON = {"str": str, "int": int, "bool": bool, "datetime": str}
_WORDS = {"str": "text", "int": "an integer", "bool": "true or false", "datetime": "a time"}


@dataclass
class Problems:
    """What is wrong with an object's form.

    Attributes:
        unknown: paths of fields that no type has.
        invalid: missing fields and wrong types, in words.
    """

    unknown: list[str] = field(default_factory=list)
    invalid: list[str] = field(default_factory=list)


def problems(isvc: Any) -> Problems:
    """Everything that is wrong with the form of `isvc`."""
    found = Problems()
    _check(isvc, "InferenceService", "", found)
    return found


def _check(value: Any, kind: str, path: str, found: Problems) -> None:
    if value is None or kind == "object":
        return
    if kind.startswith("list["):
        if _is(value, list, "a list", path, found):
            for index, item in enumerate(value):
                _check(item, kind[5:-1], f"{path}[{index}]", found)
    elif kind.startswith("dict("):
        if _is(value, dict, "an object", path, found):
            for key, item in value.items():
                _check(item, kind[10:-1], f"{path}.{key}", found)
    elif kind in _PYTHON:
        _check_scalar(value, kind, path, found)
    elif kind == "float":
        _is(value, (int, float), "a number", path, found)
    elif _is(value, dict, "an object", path, found):
        _check_fields(value, kind, path, found)


def _check_scalar(value: Any, kind: str, path: str, found: Problems) -> None:
    quantity = not _QUANTITIES.isdisjoint(path.split("."))
    wanted = (str, int, float) if quantity and kind == "str" else _PYTHON[kind]
    if isinstance(value, bool) and kind != "bool":
        found.invalid.append(f"{path} must be {_WORDS[kind]}, not {value!r}")
    else:
        _is(value, wanted, _WORDS[kind], path, found)


def _check_fields(value: Mapping[str, Any], kind: str, path: str, found: Problems) -> None:
    fields = KSERVE[kind] if kind in KSERVE else _kubernetes_fields(kind)
    for name, item in value.items():
        where = f"{path}.{name}" if path else name
        if name not in fields:
            found.unknown.append(where)
        else:
            _check(item, fields[name], where, found)
    missing = _missing(value, kind)
    if missing:
        found.invalid.append(f"{path or 'the object'}: {missing}")


def _kubernetes_fields(kind: str) -> dict[str, str]:
    model = getattr(kubernetes, kind)
    return {attribute: model.openapi_types[name] for name, attribute in model.attribute_map.items()}


def _missing(value: Mapping[str, Any], kind: str) -> str:
    """Why a field that must be there is not, in words; empty when all are."""
    if kind in KSERVE:
        absent = [name for name in _REQUIRED.get(kind, ()) if value.get(name) is None]
        return f"{', '.join(absent)} must be set" if absent else ""
    model = getattr(kubernetes, kind)
    try:
        given = {name: value.get(attribute) for name, attribute in model.attribute_map.items()}
        model(**given, local_vars_configuration=_CLIENT)
    except ValueError as error:  # the client's own check, which names the first field that is missing
        return str(error)
    return ""


def _is(value: Any, wanted: type | tuple[type, ...], words: str, path: str, found: Problems) -> bool:
    if isinstance(value, wanted):
        return True
    found.invalid.append(f"{path or 'the object'} must be {words}, not {value!r:.80}")
    return False
