"""Ports by name or number: of services, monitors and routes, in the pods behind them."""

from __future__ import annotations

from collections.abc import Iterator

from tests.manifest_checks.built import Built, Pod
from tests.manifest_checks.finding import Finding, Object, labels, namespace, once, title
from tests.manifest_checks.selectors import matches, pods_of, pods_of_service

# Knative names the container's port so, and adds these of its own beside it.
KNATIVE_PORTS = {
    "user-port": 8080,
    "http-usermetric": 9091,
    "http-autometric": 9090,
    "http-queueadm": 8022,
    "queue-port": 8012,
}


def number(pod: Pod, port: int | str) -> int | None:
    """The number of a pod's port, given by number or name; None when it has no such port."""
    declared = [entry for container in pod.containers if not container.init for entry in container.ports]
    if pod.isvc and port in {*KNATIVE_PORTS, *KNATIVE_PORTS.values()}:
        return KNATIVE_PORTS.get(str(port), port if isinstance(port, int) else None)
    found = (entry["containerPort"] for entry in declared if port in {entry.get("name"), entry["containerPort"]})
    return next(found, None)


def target(service: Object, port: int | str) -> int | str | None:
    """The target port behind a service's port, given by number or name."""
    for entry in service["spec"].get("ports") or []:
        if port in {entry["port"], entry.get("name")}:
            found: int | str = entry.get("targetPort", entry["port"])
            return found
    return None


@once
def check_services(built: Built) -> Iterator[Finding]:
    for service in built.of("Service"):
        for index, entry in enumerate(service["spec"].get("ports") or []):
            wanted = entry.get("targetPort", entry["port"])
            for pod in pods_of_service(built, service):
                if number(pod, wanted) is None:
                    yield Finding(
                        title(service), f"spec.ports[{index}].targetPort", f"{pod.owner} has no port {wanted}"
                    )
        name = service["spec"].get("clusterIP")
        if not service["spec"].get("selector") and service["spec"].get("type") != "ExternalName":
            yield Finding(
                title(service), "spec.selector", f"there is none, and no ExternalName ({name or 'ClusterIP'})"
            )


@once
def check_monitors(built: Built) -> Iterator[Finding]:
    for thing in built.of("PodMonitor"):
        for index, endpoint in enumerate(thing["spec"].get("podMetricsEndpoints") or []):
            wanted = endpoint.get("port", endpoint.get("portNumber", endpoint.get("targetPort")))
            for pod in pods_of(built, namespace(thing), thing["spec"]["selector"]):
                if number(pod, wanted) is None:
                    path = f"spec.podMetricsEndpoints[{index}]"
                    yield Finding(title(thing), path, f"{pod.owner} has no port {wanted}")
    for thing in built.of("ServiceMonitor"):
        services = [s for s in built.of("Service") if namespace(s) == namespace(thing)]
        for service in services:
            if not matches(thing["spec"]["selector"], labels(service)):
                continue
            names = {entry.get("name") for entry in service["spec"]["ports"]}
            for index, endpoint in enumerate(thing["spec"]["endpoints"]):
                if endpoint.get("port") not in names:
                    message = f"{title(service)} has no port named {endpoint.get('port')}"
                    yield Finding(title(thing), f"spec.endpoints[{index}]", message)
