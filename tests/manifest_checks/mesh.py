"""Istio's policies: who is named in one is somebody, and whom one protects is in the mesh."""

from __future__ import annotations

import re
from collections.abc import Iterator

from tests.manifest_checks.built import Built, Pod
from tests.manifest_checks.finding import Finding, namespace, once, title, walk
from tests.manifest_checks.ports import scraped
from tests.manifest_checks.selectors import matches, pods_of

_PRINCIPAL = re.compile(r"^cluster\.local/ns/([^/]+)/sa/([^/]+)$")
SIDECAR = "sidecar.istio.io/inject"
_PAST_SIDECAR = "traffic.sidecar.istio.io/excludeInboundPorts"


@once
def check(built: Built) -> Iterator[Finding]:
    """No definition of Istio's kinds is at hand: what matters in them is looked at here."""
    ours = {thing["metadata"]["name"] for thing in built.of("Namespace")}
    members = {(pod.namespace, pod.service_account) for pod in built.pods if pod.labels.get(SIDECAR) == "true"}
    for thing in built.of("AuthorizationPolicy"):
        for path, node in walk(thing["spec"], "spec"):
            for name in node.get("principals") or []:
                match = _PRINCIPAL.match(name)
                if match is None:
                    yield Finding(title(thing), f"{path}.principals", f"{name} is no identity of a service account")
                elif match[1] in ours and (match[1], match[2]) not in members and not _taken_away(built, match[2]):
                    yield Finding(title(thing), f"{path}.principals", f"no pod in the mesh runs as {name}")
    for thing in built.of("AuthorizationPolicy", "PeerAuthentication"):
        selector = thing["spec"].get("selector")
        for pod in pods_of(built, namespace(thing), selector) if selector else []:
            if pod.labels.get(SIDECAR) != "true":
                yield Finding(title(thing), "spec.selector", f"{pod.owner} is not in the mesh: nothing enforces it")
    if built.of("PeerAuthentication"):
        for pod, port in scraped(built):
            if pod.labels.get(SIDECAR) == "true" and not _takes_strangers(built, pod, str(port)):
                yield Finding(pod.owner, pod.path, f"the mesh turns Prometheus away on {port}")


def _takes_strangers(built: Built, pod: Pod, port: str) -> bool:
    """Whether a port may be read without an identity: past the sidecar, or by both kinds of policy."""
    if port in pod.annotations.get(_PAST_SIDECAR, "").split(","):
        return True
    modes = [
        (thing["spec"].get("portLevelMtls") or {}).get(port, {}).get("mode")
        for thing in built.of("PeerAuthentication")
        if thing["spec"].get("selector") and matches(thing["spec"]["selector"], pod.labels)
    ]
    rules = [rule for thing in built.of("AuthorizationPolicy") for rule in thing["spec"].get("rules") or []]
    allowed = [to["operation"] for rule in rules if "from" not in rule for to in rule.get("to") or []]
    return "PERMISSIVE" in modes and any(port in operation.get("ports", ()) for operation in allowed)


def _taken_away(built: Built, account: str) -> bool:
    """The bridge, where KServe's payload logger has taken its place."""
    return bool(built.of("Trigger")) and account == "fraud-drift-bridge"
