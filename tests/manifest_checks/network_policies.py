"""Network policies: every connection that the environment of a pod names is let out and let in."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from tests.manifest_checks.addresses import Address, addresses, knative_names
from tests.manifest_checks.built import Built, Pod
from tests.manifest_checks.finding import Finding, Object, labels, namespace, once, title
from tests.manifest_checks.ports import number, scraped, target
from tests.manifest_checks.selectors import matches, pods_of_service

_NAME = "kubernetes.io/metadata.name"
DNS = 53
# Secrets that hold a login, or a whole address, and the service and port that it is for.
_LOGINS = ((re.compile(r"\bredis\b"), "redis", 6379), (re.compile(r"^fraud-mlflow$"), "mlflow", 5000))
# Calls of an InferenceService pass through Knative's gateway or activator, never straight to the pod.
GATEWAYS = ("knative-serving", "istio-system", "kourier-system")


@dataclass(frozen=True)
class End:
    """One end of a connection: labels of the pod and of its namespace."""

    labels: Mapping[str, str]
    namespace: Mapping[str, str]


@dataclass(frozen=True)
class Connection:
    """What a pod wants to reach.

    Attributes:
        source: the pod.
        service: name of the service, for the message.
        targets: pods behind it and the port of each; none where it is another's.
        namespace: of the service.
        port: that the service's pods listen on.
        served: whether it is an InferenceService.
    """

    source: Pod
    service: str
    targets: tuple[tuple[Pod, int], ...]
    namespace: str
    port: int | None
    served: bool


def connections(built: Built) -> Iterator[Connection]:
    """Of every pod: addresses in its containers, and services that it takes a login for from a secret."""
    named = list(addresses(built))
    for pod in (*built.pods, *built.step_pods):
        for address in named:
            thing = title(address.object)
            if any(thing == c.object and address.path.startswith(f"{c.path}.") for c in pod.containers):
                yield _connection(built, pod, address)
        for container in pod.containers:
            for entry in container.env.values():
                secret = ((entry.get("valueFrom") or {}).get("secretKeyRef") or {}).get("name", "")
                for pattern, name, port in _LOGINS:
                    if pattern.search(secret) and built.find("Service", name, pod.namespace) is not None:
                        yield _connection(built, pod, Address({}, "", name, pod.namespace, port))


def _connection(built: Built, pod: Pod, address: Address) -> Connection:
    served = address.service in knative_names(built, address.namespace)
    service = built.find("Service", address.service, address.namespace)
    targets: list[tuple[Pod, int]] = []
    if service is not None and not served:
        wanted = target(service, address.port) if address.port is not None else None
        for other in pods_of_service(built, service):
            at = number(other, wanted) if wanted is not None else None
            targets += [(other, at)] if at is not None else []
    name = f"{address.service}.{address.namespace}"
    return Connection(pod, name, tuple(targets), address.namespace, address.port, served)


@once
def check(built: Built) -> Iterator[Finding]:
    """Where policies select a pod at all; without any, everything may pass."""
    for pod in (*built.pods, *built.step_pods):
        if not _let_out(built, pod, End({}, {_NAME: "kube-system"}), DNS, "UDP"):
            yield Finding(pod.owner, pod.path, "no network policy lets it ask for names (DNS, port 53 UDP)")
    for wanted in connections(built):
        pod = wanted.source
        if wanted.served:
            if not any(_let_out(built, pod, End({}, {_NAME: name}), None) for name in GATEWAYS):
                yield Finding(pod.owner, pod.path, f"no network policy lets it call {wanted.service}")
        elif not wanted.targets and not _let_out(built, pod, End({}, _namespace(built, wanted.namespace)), wanted.port):
            yield Finding(pod.owner, pod.path, f"no network policy lets it call {wanted.service}")
        for other, port in wanted.targets:
            if other is pod:
                continue
            if not _let_out(built, pod, End(other.labels, _namespace(built, other.namespace)), port):
                yield Finding(pod.owner, pod.path, f"no network policy lets it call {wanted.service} on {port}")
            if not _let_in(built, other, End(pod.labels, _namespace(built, pod.namespace)), port):
                yield Finding(other.owner, other.path, f"no network policy lets {pod.owner} in on {port}")
    for pod in built.pods:
        if pod.isvc and not any(_let_in(built, pod, End({}, {_NAME: name}), None) for name in GATEWAYS):
            yield Finding(pod.owner, pod.path, "no network policy lets Knative's gateway or activator in")


@once
def check_scrapes(built: Built) -> Iterator[Finding]:
    """What is monitored lets Prometheus in, on the ports of its monitor."""
    for pod, port in scraped(built):
        policies = _selecting(built, pod, "Ingress")
        rules = [rule for policy in policies for rule in policy["spec"].get("ingress") or []]
        if policies and not any(_from_elsewhere(rule, port) for rule in rules):
            yield Finding(pod.owner, pod.path, f"no network policy lets monitoring in on {port}")


def _from_elsewhere(rule: Object, port: int | None) -> bool:
    peers = rule.get("from")
    return _port_fits(rule, port, "TCP") and (not peers or any("namespaceSelector" in peer for peer in peers))


def _namespace(built: Built, name: str) -> dict[str, str]:
    thing = built.find("Namespace", name)
    return {**(labels(thing) if thing else {}), _NAME: name}


def _selecting(built: Built, pod: Pod, direction: str) -> list[Object]:
    return [
        policy
        for policy in built.of("NetworkPolicy")
        if namespace(policy) == pod.namespace
        and matches(policy["spec"].get("podSelector"), pod.labels)
        and direction in (policy["spec"].get("policyTypes") or ["Ingress"])
    ]


def _let_out(built: Built, pod: Pod, to: End, port: int | None, protocol: str = "TCP") -> bool:
    policies = _selecting(built, pod, "Egress")
    rules = ((policy, rule, rule.get("to")) for policy in policies for rule in policy["spec"].get("egress") or [])
    return not policies or any(
        _port_fits(rule, port, protocol) and (not peers or any(_fits(peer, to, policy) for peer in peers))
        for policy, rule, peers in rules
    )


def _let_in(built: Built, pod: Pod, source: End, port: int | None) -> bool:
    policies = _selecting(built, pod, "Ingress")
    rules = ((policy, rule, rule.get("from")) for policy in policies for rule in policy["spec"].get("ingress") or [])
    return not policies or any(
        _port_fits(rule, port, "TCP") and (not peers or any(_fits(peer, source, policy) for peer in peers))
        for policy, rule, peers in rules
    )


def _fits(peer: Object, end: End, policy: Object) -> bool:
    if "ipBlock" in peer:
        return str(peer["ipBlock"]["cidr"]).endswith("/0")
    if "namespaceSelector" in peer:
        same = matches(peer["namespaceSelector"], end.namespace)
    else:
        same = end.namespace[_NAME] == namespace(policy)
    # The labels of pods that others run are not known here.
    return same and (not end.labels or matches(peer.get("podSelector"), end.labels))


def _port_fits(rule: Object, port: int | None, protocol: str) -> bool:
    allowed = rule.get("ports")
    if not allowed or port is None:
        return True
    for entry in allowed:
        if entry.get("protocol", "TCP") != protocol:
            continue
        first = entry.get("port")
        if first is None or not isinstance(first, int) or first <= port <= entry.get("endPort", first):
            return True
    return False
