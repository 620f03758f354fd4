"""Knative Eventing: payload loggers and Triggers meet at a Broker that exists, and their events have takers."""

from __future__ import annotations

import re
from collections.abc import Iterator

from tests.manifest_checks.built import COMPONENTS, Built
from tests.manifest_checks.finding import Finding, Object, namespace, once, title, walk

# Where Knative's multi-tenant broker takes events: the path names the broker.
_INGRESS = re.compile(r"^http://broker-ingress\.knative-eventing\.svc\.cluster\.local/([^/]+)/([^/]+)$")
# What KServe's payload logger writes on its events (pkg/logger/worker.go), and their types.
ATTRIBUTES = {"type", "source", "id", "inferenceservicename", "namespace", "component", "endpoint", "metadata"}
LOGGED = {"request": "org.kubeflow.serving.inference.request", "response": "org.kubeflow.serving.inference.response"}


@once
def check(built: Built) -> Iterator[Finding]:
    """Brokers, Triggers and the payload loggers of InferenceServices."""
    for thing in built.of("Trigger", "Broker"):
        for path, node in walk(thing["spec"], "spec"):
            if "ref" in node and isinstance(node["ref"], dict) and not _is_there(built, thing, node["ref"]):
                yield Finding(title(thing), f"{path}.ref", f"there is no {node['ref']['kind']} {node['ref']['name']}")
    for thing in built.of("Trigger"):
        yield from _of_trigger(built, thing)
    for thing in built.of("InferenceService"):
        for component in COMPONENTS:
            url = (((thing["spec"].get(component) or {}).get("logger")) or {}).get("url")
            if url is not None and not _broker_is_there(built, url):
                yield Finding(title(thing), f"spec.{component}.logger.url", f"{url} names no Broker of ours")


def _of_trigger(built: Built, thing: Object) -> Iterator[Finding]:
    where = namespace(thing), thing["spec"]["broker"]
    if built.find("Broker", where[1], where[0]) is None:
        yield Finding(title(thing), "spec.broker", f"there is no Broker {where[1]}")
    wanted = (thing["spec"].get("filter") or {}).get("attributes") or {}
    for name in sorted(wanted.keys() - ATTRIBUTES):
        yield Finding(title(thing), "spec.filter.attributes", f"events of the payload logger have no {name}")
    if wanted.get("type") in LOGGED.values() and (*where, wanted["type"]) not in _sent(built):
        yield Finding(title(thing), "spec.filter.attributes.type", f"nothing sends {wanted['type']} to the Broker")
    service = wanted.get("inferenceservicename")
    if service is not None and built.find("InferenceService", service, where[0]) is None:
        yield Finding(title(thing), "spec.filter.attributes", f"there is no InferenceService {service}")


def _is_there(built: Built, thing: Object, ref: Object) -> bool:
    where = ref.get("namespace", namespace(thing))
    if ref["apiVersion"].startswith("serving.knative.dev/") and ref["kind"] == "Service":
        isvc, _, component = ref["name"].rpartition("-")
        found = built.find("InferenceService", isvc, where)
        return found is not None and component in found["spec"]
    return built.find(ref["kind"], ref["name"], where) is not None


def _broker_is_there(built: Built, url: str) -> bool:
    match = _INGRESS.match(url)
    return match is not None and built.find("Broker", match[2], match[1]) is not None


def _sent(built: Built) -> set[tuple[str, str, str]]:
    """Namespace and name of a broker, and the type of what payload loggers send there."""
    found = set()
    for thing in built.of("InferenceService"):
        for component in COMPONENTS:
            logger = (thing["spec"].get(component) or {}).get("logger") or {}
            match = _INGRESS.match(logger.get("url", ""))
            if match:
                modes = LOGGED if logger["mode"] == "all" else {logger["mode"]: ""}
                found |= {(match[1], match[2], LOGGED[mode]) for mode in modes}
    return found
