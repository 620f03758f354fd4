"""KServe's own Python models: what a round trip through them loses is a field or a type that they do not know."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

from tests.manifest_checks.built import Built
from tests.manifest_checks.finding import Finding, Object, group, title

_MODELS = {"InferenceService": "V1beta1InferenceService", "ServingRuntime": "V1alpha1ServingRuntime"}


def check(built: Built) -> Iterator[Finding]:
    """InferenceServices and ServingRuntimes, without any schema at hand."""
    # Loaded when they are needed: they take seconds.
    import kserve

    for thing in built.of(*_MODELS):
        if group(thing) != "serving.kserve.io":
            continue
        try:
            back = _round_trip(thing)
        except (ValueError, kserve.ApiException) as error:
            yield Finding(title(thing), "", f"KServe's models refuse it: {error}")
            continue
        for path in _differences(_expected(thing), back):
            yield Finding(title(thing), path, "KServe's models lose or change it")


def _round_trip(thing: Object) -> Any:
    import kserve
    import kubernetes.client

    for kind in dir(kubernetes.client):
        # Its models refer to Kubernetes' by bare name, but its client looks among its own only.
        if kind.startswith("V") and not hasattr(kserve.models, kind):
            setattr(kserve.models, kind, getattr(kubernetes.client, kind))

    class Response:
        data = json.dumps(thing)

    client = kserve.ApiClient()
    return client.sanitize_for_serialization(client.deserialize(Response, _MODELS[thing["kind"]]))


def _expected(thing: Object) -> Object:
    result = copy.deepcopy(thing)
    if thing["kind"] == "InferenceService" and "model" in thing["spec"]["predictor"]:
        result["spec"]["predictor"]["model"].setdefault("name", "")  # the models' default
    return result


def _differences(ours: Any, theirs: Any, path: str = "") -> Iterator[str]:
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for key in sorted(ours.keys() | theirs.keys()):
            yield from _differences(ours.get(key), theirs.get(key), f"{path}.{key}" if path else key)
    elif isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        for index, (mine, other) in enumerate(zip(ours, theirs, strict=True)):
            yield from _differences(mine, other, f"{path}[{index}]")
    elif ours != theirs:
        yield path
