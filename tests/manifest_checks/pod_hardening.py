"""What a container may do and take: Pod Security Standard `restricted`, a read-only root, limits, probes."""

from __future__ import annotations

from collections.abc import Iterator

from kubernetes.utils.quantity import parse_quantity

from tests.manifest_checks.built import Built, Container, Pod
from tests.manifest_checks.finding import Finding, Object, labels, namespace, once, title

ENFORCE = "pod-security.kubernetes.io/enforce"
# Volume types that `restricted` allows.
_VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}
_HOST = ("hostNetwork", "hostPID", "hostIPC")


def check_namespaces(built: Built) -> Iterator[Finding]:
    """Every namespace of ours demands `restricted`, and every object lies in one of them."""
    ours = {thing["metadata"]["name"] for thing in built.of("Namespace")}
    for thing in built.of("Namespace"):
        if labels(thing).get(ENFORCE) != "restricted":
            yield Finding(title(thing), "metadata.labels", f"{ENFORCE} is not restricted")
    for thing in built.objects:
        if namespace(thing) not in {*ours, ""}:
            yield Finding(title(thing), "metadata.namespace", f"{namespace(thing)} is no namespace of ours")
        if not namespace(thing) and thing["kind"] not in _CLUSTER_WIDE:
            yield Finding(title(thing), "metadata.namespace", "it has none")


_CLUSTER_WIDE = {"Namespace", "ClusterRole", "ClusterRoleBinding", "PriorityClass", "ClusterServingRuntime"}


@once
def check_rights(built: Built) -> Iterator[Finding]:
    """No container runs as root, gains rights, or writes to its image."""
    for pod in built.pods:
        yield from _pod_rights(pod)
    for pod, container in built.containers():
        own = container.spec.get("securityContext") or {}
        of_pod = pod.spec.get("securityContext") or {}
        where = f"{container.path}.securityContext"
        for fault in _faults(own, of_pod):
            yield Finding(container.object, where, fault)


def _pod_rights(pod: Pod) -> Iterator[Finding]:
    for key in _HOST:
        if pod.spec.get(key):
            yield Finding(pod.owner, f"{pod.path}.{key}", "a pod may not share this with its node")
    for volume in pod.spec.get("volumes") or []:
        for kind in volume.keys() - {"name"} - _VOLUMES:
            yield Finding(pod.owner, f"{pod.path}.volumes", f"{volume['name']}: {kind} is not allowed")


def _faults(own: Object, of_pod: Object) -> Iterator[str]:
    def says(field: str) -> object:
        return own.get(field, of_pod.get(field))

    if says("runAsNonRoot") is not True:
        yield "runAsNonRoot is not true"
    if says("runAsUser") == 0:
        yield "runAsUser is root"
    if (says("seccompProfile") or {}) not in ({"type": "RuntimeDefault"}, {"type": "Localhost"}):
        yield "seccompProfile is not RuntimeDefault"
    if own.get("allowPrivilegeEscalation") is not False:
        yield "allowPrivilegeEscalation is not false"
    if own.get("privileged"):
        yield "it is privileged"
    if own.get("readOnlyRootFilesystem") is not True:
        yield "readOnlyRootFilesystem is not true"
    capabilities = own.get("capabilities") or {}
    if capabilities.get("drop") != ["ALL"]:
        yield "capabilities do not drop ALL"
    if set(capabilities.get("add") or []) - {"NET_BIND_SERVICE"}:
        yield "capabilities add what restricted forbids"


@once
def check_resources(built: Built) -> Iterator[Finding]:
    """Every container has limits and requests of both, every step of a pipeline too; scratch folders are bounded."""
    for pod, container in built.containers():
        resources = container.spec.get("resources") or {}
        for part in ("requests", "limits"):
            for kind in sorted({"cpu", "memory"} - (resources.get(part) or {}).keys()):
                yield Finding(container.object, f"{container.path}.resources.{part}", f"no {kind}")
        limits = resources.get("limits") or {}
        for kind, asked in (resources.get("requests") or {}).items():
            if kind in limits and parse_quantity(asked) > parse_quantity(limits[kind]):
                path = f"{container.path}.resources.requests"
                yield Finding(container.object, path, f"{asked} of {kind} is more than the limit of {limits[kind]}")
        for volume in pod.spec.get("volumes") or []:
            if "emptyDir" in volume and not (volume["emptyDir"] or {}).get("sizeLimit"):
                yield Finding(pod.owner, f"{pod.path}.volumes", f"{volume['name']}: an emptyDir without sizeLimit")
    for step in built.steps:
        resources = step.container.get("resources") or {}
        for kind in ("Cpu", "Memory"):
            if not {f"{kind.lower()}Limit", f"resource{kind}Limit"} & resources.keys():
                yield Finding(step.object, f"{step.path}.resources", f"no limit of {kind.lower()}")


@once
def check_probes(built: Built) -> Iterator[Finding]:
    """Every container that runs on says whether it is ready and whether it lives, on a port that it has."""
    for pod, container in built.containers():
        if pod.job or container.init:
            continue
        for probe in ("readinessProbe", "livenessProbe"):
            if probe not in container.spec:
                yield Finding(container.object, container.path, f"no {probe}")
        yield from _probe_ports(container)


def _probe_ports(container: Container) -> Iterator[Finding]:
    numbers = {port["containerPort"] for port in container.ports}
    names = {port["name"] for port in container.ports if "name" in port}
    for probe in ("readinessProbe", "livenessProbe", "startupProbe"):
        asked = container.spec.get(probe) or {}
        for way in ("httpGet", "tcpSocket", "grpc"):
            port = (asked.get(way) or {}).get("port")
            if port is not None and port not in numbers | names:
                yield Finding(
                    container.object, f"{container.path}.{probe}.{way}.port", f"the container has no port {port}"
                )
