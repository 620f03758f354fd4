"""Everything that picks pods or objects by label or by name has to pick something."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from feature_repo.streaming.keys import PARTITIONS, partition_stream
from tests.manifest_checks import expected
from tests.manifest_checks.built import Built, Pod
from tests.manifest_checks.finding import Finding, Object, labels, namespace, once, title

# The worker's work: one stream for each partition.
STREAMS = tuple(partition_stream(partition) for partition in range(PARTITIONS))


def matches(selector: Object | None, marks: Mapping[str, str]) -> bool:
    """Whether labels fit a Kubernetes label selector; an empty one fits all."""
    selector = selector or {}
    if any(marks.get(key) != value for key, value in (selector.get("matchLabels") or {}).items()):
        return False
    for expression in selector.get("matchExpressions") or []:
        key, values = expression["key"], expression.get("values") or []
        holds = {
            "In": marks.get(key) in values,
            "NotIn": marks.get(key) not in values,
            "Exists": key in marks,
            "DoesNotExist": key not in marks,
        }[expression["operator"]]
        if not holds:
            return False
    return True


def pods_of(built: Built, where: str, selector: Object | None) -> list[Pod]:
    return [pod for pod in built.pods if pod.namespace == where and matches(selector, pod.labels)]


def pods_of_service(built: Built, service: Object) -> list[Pod]:
    selector = service["spec"].get("selector")
    return pods_of(built, namespace(service), {"matchLabels": selector}) if selector else []


# Where each kind keeps the selector that has to find a pod.
_SELECTS = {
    "PodDisruptionBudget": ("spec", "selector"),
    "PodMonitor": ("spec", "selector"),
    "NetworkPolicy": ("spec", "podSelector"),
    "AuthorizationPolicy": ("spec", "selector"),
    "PeerAuthentication": ("spec", "selector"),
    "RequestAuthentication": ("spec", "selector"),
    "Sidecar": ("spec", "workloadSelector"),
}


@once
def check_pods(built: Built) -> Iterator[Finding]:
    for thing in built.of(*_SELECTS):
        first, second = _SELECTS[thing["kind"]]
        selector = (thing.get(first) or {}).get(second)
        ours = [pod.labels for pod in (*built.pods, *built.step_pods) if pod.namespace == namespace(thing)]
        if selector and not any(matches(selector, marks) for marks in (*ours, *expected.guests())):
            yield Finding(title(thing), f"{first}.{second}", f"it picks no pod: {selector}")
    for thing in built.of("Service"):
        if thing["spec"].get("selector") and not pods_of_service(built, thing):
            yield Finding(title(thing), "spec.selector", f"it picks no pod: {thing['spec']['selector']}")
    for thing in built.of("ServiceMonitor"):
        services = [s for s in built.of("Service") if namespace(s) == namespace(thing)]
        if not any(matches(thing["spec"]["selector"], labels(service)) for service in services):
            yield Finding(title(thing), "spec.selector", "it picks no service")


@once
def check_own(built: Built) -> Iterator[Finding]:
    """A workload's selector, its spread and its affinity have to fit its own pods."""
    for thing in built.of("Deployment", "StatefulSet", "DaemonSet"):
        marks = (thing["spec"]["template"].get("metadata") or {}).get("labels") or {}
        if not matches(thing["spec"]["selector"], marks):
            yield Finding(title(thing), "spec.selector", "it does not fit the labels of the template")
        name = thing["spec"].get("serviceName")
        if name and built.find("Service", name, namespace(thing)) is None:
            yield Finding(title(thing), "spec.serviceName", f"there is no service {name}: its pods have no names")
    for pod in built.pods:
        for index, rule in enumerate(pod.spec.get("topologySpreadConstraints") or []):
            if not matches(rule.get("labelSelector"), pod.labels):
                path = f"{pod.path}.topologySpreadConstraints[{index}]"
                yield Finding(pod.owner, path, "its labelSelector does not fit the pod")
        for rule in _anti_affinities(pod):
            if not matches(rule.get("labelSelector"), pod.labels):
                yield Finding(pod.owner, f"{pod.path}.affinity", "its labelSelector does not fit the pod")


def _anti_affinities(pod: Pod) -> Iterable[Object]:
    rules = (pod.spec.get("affinity") or {}).get("podAntiAffinity") or {}
    yield from rules.get("requiredDuringSchedulingIgnoredDuringExecution") or []
    for weighted in rules.get("preferredDuringSchedulingIgnoredDuringExecution") or []:
        yield weighted["podAffinityTerm"]


@once
def check_scaled(built: Built) -> Iterator[Finding]:
    """What is scaled exists, once, and leaves a disruption budget something to give."""
    seen: set[tuple[str, str]] = set()
    for thing in built.of("HorizontalPodAutoscaler", "ScaledObject"):
        target = thing["spec"]["scaleTargetRef"]
        kind, name = target.get("kind", "Deployment"), target["name"]
        if built.find(kind, name, namespace(thing)) is None:
            yield Finding(title(thing), "spec.scaleTargetRef", f"there is no {kind} {name}")
        if (kind, name) in seen:
            yield Finding(title(thing), "spec.scaleTargetRef", f"two autoscalers for {kind} {name}")
        seen.add((kind, name))
    for thing in built.of("ScaledObject"):
        yield from _triggers(built, thing)
    for thing in built.of("PodDisruptionBudget"):
        least = thing["spec"].get("minAvailable")
        found = [replicas(built, pod)[0] for pod in pods_of(built, namespace(thing), thing["spec"].get("selector"))]
        if isinstance(least, int) and found and least >= min(found):
            yield Finding(title(thing), "spec.minAvailable", "no pod may ever be moved: a node cannot be drained")
        if thing["spec"].get("maxUnavailable") == 0:
            yield Finding(title(thing), "spec.maxUnavailable", "no pod may ever be moved: a node cannot be drained")


def _triggers(built: Built, thing: Object) -> Iterator[Finding]:
    """KEDA asks for streams that the worker reads, with a login that is there."""
    for index, trigger in enumerate(thing["spec"]["triggers"]):
        login = (trigger.get("authenticationRef") or {}).get("name")
        if login and built.find("TriggerAuthentication", login, namespace(thing)) is None:
            yield Finding(title(thing), f"spec.triggers[{index}]", f"there is no TriggerAuthentication {login}")
        stream = trigger["metadata"].get("stream")
        if stream is not None and stream not in STREAMS:
            yield Finding(title(thing), f"spec.triggers[{index}].metadata.stream", f"no worker reads {stream}")
    watched = {trigger["metadata"].get("stream") for trigger in thing["spec"]["triggers"]}
    for stream in STREAMS if watched & set(STREAMS) else ():
        if stream not in watched:
            yield Finding(title(thing), "spec.triggers", f"nobody watches {stream}")


def replicas(built: Built, pod: Pod) -> tuple[int, int]:
    """How many of a pod run at the least and at the most."""
    kind, _, name = pod.owner.partition(" ")
    owner = built.find(kind, name, pod.namespace)
    assert owner is not None
    if pod.isvc:
        spec = owner["spec"][pod.path.partition(".")[2]]
        return spec.get("minReplicas", 1), spec.get("maxReplicas") or 1000
    for scaler in built.of("ScaledObject", "HorizontalPodAutoscaler"):
        spec = scaler["spec"]
        if spec["scaleTargetRef"]["name"] == name and namespace(scaler) == pod.namespace:
            least = spec.get("minReplicaCount", spec.get("minReplicas", 1))
            return least, spec.get("maxReplicaCount", spec.get("maxReplicas", 1))
    fixed = owner["spec"].get("replicas", 1)
    return fixed, fixed
