"""Istio's policies: who is named in one is somebody, and whom one protects is in the mesh."""

from __future__ import annotations

import re
from collections.abc import Iterator

from tests.manifest_checks.built import Built
from tests.manifest_checks.finding import Finding, namespace, once, title, walk
from tests.manifest_checks.selectors import pods_of

_PRINCIPAL = re.compile(r"^cluster\.local/ns/([^/]+)/sa/([^/]+)$")
SIDECAR = "sidecar.istio.io/inject"


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


def _taken_away(built: Built, account: str) -> bool:
    """The bridge, where KServe's payload logger has taken its place."""
    return bool(built.of("Trigger")) and account == "fraud-drift-bridge"
