"""Addresses written anywhere in an object: each host in a cluster has to be a service, and its port one of that."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from tests.manifest_checks import expected
from tests.manifest_checks.built import Built
from tests.manifest_checks.finding import Finding, Object, namespace, once, title, walk

# scheme, user and password, host, port
_URL = re.compile(r"\b([a-z][a-z0-9+.-]*)://(?:[^\s/@\"']*@)?([a-z0-9.-]+)(?::(\d+))?")
_BARE = re.compile(r"(?<![/@\w.-])([a-z0-9-]+(?:\.[a-z0-9-]+)?\.svc(?:\.cluster\.local)?)(?::(\d+))?")
_CLUSTER = re.compile(r"^([a-z0-9-]+)(?:\.([a-z0-9-]+)(?:\.svc(?:\.cluster\.local)?)?)?$")
_DEFAULT_PORTS = {"http": 80, "https": 443, "redis": 6379, "rediss": 6379, "grpc": 80, "postgresql": 5432}
# Schemes whose authority is a bucket, a claim or a principal.
_NO_HOST = {"pvc", "s3", "s3a", "gs", "file", "spiffe", "oci", "hf", "sqlite"}
KNATIVE_PORT = 80


@dataclass(frozen=True)
class Address:
    """A service that an object names.

    Attributes:
        object: the one that names it.
        path: where.
        service: its name.
        namespace: where it is said to be.
        port: that is asked; None where none is named.
    """

    object: Object
    path: str
    service: str
    namespace: str
    port: int | None


def addresses(built: Built) -> Iterator[Address]:
    """Of every text in every object, metadata and what is told to people left out."""
    ours = {thing["metadata"]["name"] for thing in built.of("Namespace")}
    for thing in built.objects:
        if thing["kind"] in _PROSE:
            continue
        for path, node in walk({key: value for key, value in thing.items() if key != "metadata"}):
            for key, value in node.items():
                for text in value if isinstance(value, list) else [value]:
                    if isinstance(text, str) and not _is_prose(thing, key):
                        yield from _in_text(thing, f"{path}.{key}", text, ours)


# Alerts and definitions of types hold links; dashboards and compiled pipelines hold code.
_PROSE = {"PrometheusRule", "PipelineVersion", "CustomResourceDefinition"}


def _is_prose(thing: Object, key: str) -> bool:
    return thing["kind"] == "ConfigMap" and key.endswith(".json")


def _in_text(thing: Object, path: str, text: str, ours: set[str]) -> Iterator[Address]:
    """Hosts of URLs, and bare ones that end as services do."""
    found = [
        (host, port or _DEFAULT_PORTS.get(scheme))
        for scheme, host, port in _URL.findall(text)
        if scheme not in _NO_HOST
    ]
    for host, port in [*found, *_BARE.findall(text)]:
        match, number = _CLUSTER.match(host), int(port) if port else None
        # Of two words, the second is one of our namespaces or the host is somewhere on the internet.
        if match and host != "localhost" and (".svc" in host or match[2] in {None, *ours}):
            yield Address(thing, path, match[1], match[2] or namespace(thing), number)
        elif match is None and re.search(r"\.svc(\.cluster\.local)?$", host):
            # No service has such a name.
            yield Address(thing, path, host, namespace(thing), number)


def knative_names(built: Built, where: str) -> set[str]:
    """Hosts that KServe makes for the InferenceServices of a namespace; each answers on port 80."""
    found = {thing["metadata"]["name"]: thing for thing in built.of("InferenceService") if namespace(thing) == where}
    return {*found, *(f"{n}-{c}" for n, t in found.items() for c in ("predictor", "transformer") if c in t["spec"])}


def service_ports(built: Built, address: Address) -> set[int] | None:
    """Ports on which a service answers; None where there is no such service."""
    if address.service in knative_names(built, address.namespace):
        return {KNATIVE_PORT, 443}
    found = built.find("Service", address.service, address.namespace)
    return None if found is None else {entry["port"] for entry in found["spec"].get("ports") or []}


@once
def check(built: Built) -> Iterator[Finding]:
    """In our namespaces the service is ours; in any other it is listed as expected."""
    ours = {thing["metadata"]["name"] for thing in built.of("Namespace")}
    for address in addresses(built):
        host = f"{address.service}.{address.namespace}"
        where = title(address.object), address.path
        if address.namespace not in ours:
            if host not in expected.services():
                yield Finding(*where, f"{host} is neither ours nor listed as expected in manifests/README.md")
            continue
        ports = service_ports(built, address)
        if ports is None:
            yield Finding(*where, f"there is no service {host}")
        elif address.port is not None and address.port not in ports:
            yield Finding(*where, f"{host} has no port {address.port}, only {sorted(ports)}")
