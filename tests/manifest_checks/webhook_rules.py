"""What KServe's webhooks would refuse, and what they let pass that does not do what it says."""

from __future__ import annotations

from collections.abc import Iterator

from simulators.local_kserve.webhook import DEPLOYMENT_MODE, KNATIVE, refusals
from tests.manifest_checks.built import COMPONENTS, PREDICTOR_CONTAINER, Built
from tests.manifest_checks.finding import Finding, Object, annotation, title


def check(built: Built) -> Iterator[Finding]:
    """The validating webhook's own rules, which the local KServe applies to the same objects."""
    for thing in built.of("InferenceService"):
        for reason in refusals(None, thing):
            yield Finding(title(thing), "", reason)
    for thing in built.of("ServingRuntime"):
        for container in thing["spec"]["containers"]:
            if any(entry["name"] == "PYTHONPATH" for entry in container.get("env") or []):
                yield Finding(title(thing), "spec.containers", "PYTHONPATH is refused")


def check_silent(built: Built) -> Iterator[Finding]:
    """What KServe accepts without a word and then ignores, or does otherwise than it reads."""
    for thing in built.of("InferenceService"):
        mode = annotation(thing, DEPLOYMENT_MODE)
        if mode != KNATIVE:
            message = f"{DEPLOYMENT_MODE} must be {KNATIVE}, not {mode}: canaryTrafficPercent is ignored in any other"
            yield Finding(title(thing), "metadata.annotations", message)
        for component in COMPONENTS:
            if component in thing["spec"]:
                yield from _silent(title(thing), f"spec.{component}", thing["spec"][component])
        concurrency = (thing["spec"].get("transformer") or {}).get("containerConcurrency", 0)
        if concurrency > 1:
            message = "the controller would append --workers to the transformer, which has one"
            yield Finding(title(thing), "spec.transformer.containerConcurrency", message)


def _silent(thing: str, path: str, spec: Object) -> Iterator[Finding]:
    if "timeout" not in spec:
        yield Finding(thing, path, "no timeout: a request may wait for ten minutes")
    if "canaryTrafficPercent" in spec:
        yield Finding(thing, f"{path}.canaryTrafficPercent", "the rollout's business: a first revision splits nothing")
    if not spec.get("maxReplicas"):
        yield Finding(thing, path, "no maxReplicas: Knative starts as many as it likes")


def check_runtimes(built: Built) -> Iterator[Finding]:
    """Every model names a runtime that takes its format, version and protocol."""
    for thing in built.of("InferenceService"):
        model = thing["spec"]["predictor"].get("model")
        if model is None:
            continue
        path = "spec.predictor.model"
        runtime = built.find("ServingRuntime", model.get("runtime", ""), thing["metadata"].get("namespace", ""))
        if runtime is None:
            yield Finding(title(thing), f"{path}.runtime", f"there is no ServingRuntime {model.get('runtime')}")
            continue
        asked = model["modelFormat"]
        formats = [(f["name"], f.get("version")) for f in runtime["spec"]["supportedModelFormats"]]
        if not any(asked["name"] == name and asked.get("version") in {None, version} for name, version in formats):
            yield Finding(title(thing), f"{path}.modelFormat", f"{runtime['metadata']['name']} takes {formats}")
        spoken = runtime["spec"].get("protocolVersions") or []
        if model.get("protocolVersion", "v1") not in spoken:
            yield Finding(title(thing), f"{path}.protocolVersion", f"{runtime['metadata']['name']} speaks {spoken}")
        if PREDICTOR_CONTAINER not in {c["name"] for c in runtime["spec"]["containers"]}:
            yield Finding(title(runtime), "spec.containers", f"none is named {PREDICTOR_CONTAINER}")
