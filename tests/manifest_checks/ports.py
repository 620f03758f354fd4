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


def scraped(built: Built) -> Iterator[tuple[Pod, int]]:
    """Pods that Prometheus is told to read, and the port of each."""
    for thing in built.of("PodMonitor"):
        for pod in pods_of(built, namespace(thing), thing["spec"]["selector"]):
            found = (number(pod, _of_endpoint(endpoint)) for endpoint in thing["spec"]["podMetricsEndpoints"])
            yield from ((pod, port) for port in found if port is not None)
    for thing in built.of("ServiceMonitor"):
        for service in _monitored(built, thing):
            wanted = (target(service, endpoint.get("port", "")) for endpoint in thing["spec"]["endpoints"])
            for pod in pods_of_service(built, service):
                found = (number(pod, port) for port in wanted if port is not None)
                yield from ((pod, port) for port in found if port is not None)


@once
def check_monitors(built: Built) -> Iterator[Finding]:
    for thing in built.of("PodMonitor"):
        for index, endpoint in enumerate(thing["spec"]["podMetricsEndpoints"]):
            for pod in pods_of(built, namespace(thing), thing["spec"]["selector"]):
                if number(pod, _of_endpoint(endpoint)) is None:
                    path = f"spec.podMetricsEndpoints[{index}]"
                    yield Finding(title(thing), path, f"{pod.owner} has no port {_of_endpoint(endpoint)}")
    for thing in built.of("ServiceMonitor"):
        for service in _monitored(built, thing):
            names = {entry.get("name") for entry in service["spec"]["ports"]}
            for index, endpoint in enumerate(thing["spec"]["endpoints"]):
                if endpoint.get("port") not in names:
                    message = f"{title(service)} has no port named {endpoint.get('port')}"
                    yield Finding(title(thing), f"spec.endpoints[{index}]", message)


def _of_endpoint(endpoint: Object) -> int | str:
    for key in ("port", "portNumber", "targetPort"):
        if key in endpoint:
            found: int | str = endpoint[key]
            return found
    return ""


def _monitored(built: Built, monitor: Object) -> list[Object]:
    services = [thing for thing in built.of("Service") if namespace(thing) == namespace(monitor)]
    return [service for service in services if matches(monitor["spec"]["selector"], labels(service))]
