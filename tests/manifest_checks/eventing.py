"""Knative Eventing: payload loggers and Triggers meet at a Broker that exists, and their events have takers."""

from __future__ import annotations

import re
from collections.abc import Iterator

from tests.manifest_checks.addresses import knative_names
from tests.manifest_checks.built import COMPONENTS, Built
from tests.manifest_checks.finding import Finding, Object, namespace, once, title, walk

# Where Knative's multi-tenant broker takes events: the path names the broker.
_INGRESS = re.compile(r"^http://broker-ingress\.knative-eventing\.svc\.cluster\.local/([^/]+)/([^/]+)$")
# The types that KServe's payload logger gives its events.
LOGGED = {"request": "org.kubeflow.serving.inference.request", "response": "org.kubeflow.serving.inference.response"}


@once
def check(built: Built) -> Iterator[Finding]:
    for thing in built.of("Trigger"):
        if built.find("Broker", thing["spec"]["broker"], namespace(thing)) is None:
            yield Finding(title(thing), "spec.broker", f"there is no Broker {thing['spec']['broker']}")
    for thing in built.of("Trigger", "Broker"):
        for path, node in walk(thing["spec"], "spec"):
            if "ref" in node and isinstance(node["ref"], dict) and not _is_there(built, thing, node["ref"]):
                yield Finding(title(thing), f"{path}.ref", f"there is no {node['ref']['kind']} {node['ref']['name']}")
    sent = _sent(built)
    for thing in built.of("Trigger"):
        wanted = ((thing["spec"].get("filter") or {}).get("attributes") or {}).get("type")
        where = namespace(thing), thing["spec"]["broker"]
        if wanted in LOGGED.values() and (*where, wanted) not in sent:
            yield Finding(title(thing), "spec.filter", f"nothing sends {wanted} to the Broker")
    for thing in built.of("InferenceService"):
        for component in COMPONENTS:
            url = (((thing["spec"].get(component) or {}).get("logger")) or {}).get("url")
            if url is not None and not _broker_is_there(built, url):
                yield Finding(title(thing), f"spec.{component}.logger.url", f"{url} names no Broker of ours")


def _is_there(built: Built, thing: Object, ref: Object) -> bool:
    where = ref.get("namespace", namespace(thing))
    if ref["apiVersion"].startswith("serving.knative.dev/") and ref["kind"] == "Service":
        return ref["name"] in knative_names(built, where) or built.find("Service", ref["name"], where) is not None
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
